//! Operations that cut rows into parts and join parts to rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::{CutEach, Slot};
use crate::model::ModelError;
use crate::model::backward::{ROWS, Reverse};
use crate::model::check::{Shapes, wrong};
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that cuts [`Slot::Fused`] into queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split;

/// The operation that cuts [`Slot::Up`], or the part of each expert in it, into gate and up, of which the gate comes first.
#[derive(Debug, Clone, Copy)]
pub(super) struct SplitGate {
    pub routed: bool,
}

/// The operation that cuts each row, or each of its heads, into parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub input: Slot,
    pub outputs: &'static [Slot],
    pub each: CutEach,
}

/// The operation that undoes a [`Cut`] in two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Join {
    pub inputs: [Slot; 2],
    pub output: Slot,
    pub heads: bool,
}

impl Operation for Split {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let hyper = &source.model.hyper;
        let piece = |slot: Slot| Piece { slot, width: hyper.width(slot, source.layer).unwrap_or(0) };
        let pieces = [Slot::Query, Slot::Key, Slot::Value].map(piece).to_vec();
        Ok(Box::new(CutStep { input: Slot::Fused, pieces, parts: 1 }))
    }
}

impl Operation for Cut {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let widths: Option<Vec<usize>> = self.outputs.iter().map(|&slot| shapes.width(slot)).collect();
        let parts: usize = widths.iter().flatten().sum();
        match shapes.width(self.input) {
            Some(whole) if widths.is_some() && whole != parts => Err(shapes.width_error(self.input, parts)),
            _ => Ok(()),
        }
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let hyper = &source.model.hyper;
        let parts = match self.each {
            CutEach::Row => 1,
            CutEach::Head => hyper.heads.max(1),
            CutEach::Group => hyper.recurrent.as_ref().map_or(1, |recurrent| recurrent.groups.max(1)),
        };
        let piece = |&slot: &Slot| Some(Piece { slot, width: hyper.width(slot, source.layer)? / parts });
        let Some(pieces) = self.outputs.iter().map(piece).collect() else {
            let what = format!("cuts {:?} into {:?}, whose widths no key says", self.input, self.outputs);
            return Err(ModelError::Graph { layer: source.layer, what });
        };
        Ok(Box::new(CutStep { input: self.input, pieces, parts }))
    }
}

/// A slot that gets some columns of another slot.
#[derive(Debug, Clone, Copy)]
struct Piece {
    slot: Slot,
    /// Number of columns in each part of a row.
    width: usize,
}

/// The step that cuts each of the `parts` of a row into pieces.
#[derive(Debug, Clone)]
struct CutStep {
    input: Slot,
    pieces: Vec<Piece>,
    parts: usize,
}

impl Step for CutStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let mut from = 0;
        for &Piece { slot, width } in &self.pieces {
            copy_columns(tile, [self.input, slot], from..from + width, self.parts);
            from += width;
        }
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(self.clone())
    }
}

impl Recorded for CutStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        join_gradients(&self.pieces, self.parts, self.input, reverse);
        Ok(())
    }
}

impl Operation for SplitGate {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let (name, parts) = match self.routed {
            true => ("ffn_gate_up_exps", shapes.experts("ffn_gate_up_exps")?.used),
            false => ("ffn_up", 1),
        };
        let up = shapes.width(Slot::Up).unwrap_or(0);
        if !up.is_multiple_of(2 * parts) {
            return Err(wrong(&shapes.weight_name(name), "has an odd number of rows"));
        }
        // The tile needs the full width, which the map before has set; from here on, the slots hold halves.
        shapes.set_width(Slot::Gate, up / 2);
        shapes.set_width(Slot::Up, up / 2);
        Ok(())
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let parts = match self.routed {
            true => source.model.experts(&source.full("ffn_gate_up_exps"))?.used,
            false => 1,
        };
        Ok(Box::new(SplitGateStep { parts }))
    }
}

/// The step that cuts each of the `parts` of a row into halves.
#[derive(Debug, Clone, Copy)]
struct SplitGateStep {
    parts: usize,
}

impl Step for SplitGateStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let half = tile.width(Slot::Up) / self.parts / 2;
        copy_columns(tile, [Slot::Up, Slot::Gate], 0..half, self.parts);
        copy_columns(tile, [Slot::Up, Slot::Up], half..2 * half, self.parts);
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(SplitGateRecord { half: tile.width(Slot::Up) / self.parts / 2, parts: self.parts })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct SplitGateRecord {
    /// Width of the gate in each part.
    half: usize,
    parts: usize,
}

impl Recorded for SplitGateRecord {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let pieces = [Slot::Gate, Slot::Up].map(|slot| Piece { slot, width: self.half });
        join_gradients(&pieces, self.parts, Slot::Up, reverse);
        Ok(())
    }
}

impl Operation for Join {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let parts = if self.heads { source.model.hyper.heads } else { 1 };
        Ok(Box::new(JoinStep { inputs: self.inputs, output: self.output, parts }))
    }
}

/// The step that puts the `parts` of each row of both inputs side by side.
#[derive(Debug, Clone, Copy)]
struct JoinStep {
    inputs: [Slot; 2],
    output: Slot,
    parts: usize,
}

impl Step for JoinStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        tile.with_output(self.output, |tile, out| {
            let [a, b] = self.inputs.map(|slot| tile.width(slot) / self.parts);
            out.resize(tile.tokens() * self.parts * (a + b), 0.0);
            let [first, second] = self.inputs.map(|slot| tile.buffer(slot));
            let rows = out.par_chunks_mut(a + b).zip(first.par_chunks(a)).zip(second.par_chunks(b));
            rows.for_each(|((out, first), second)| {
                out[..a].copy_from_slice(first);
                out[a..].copy_from_slice(second);
            });
        });
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(JoinRecord { step: *self, first: tile.width(self.inputs[0]) / self.parts })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct JoinRecord {
    step: JoinStep,
    /// Width of the first input in each part.
    first: usize,
}

impl Recorded for JoinRecord {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let JoinStep { inputs, output, parts } = self.step;
        let Some(gradient) = reverse.gradients.take(output) else { return Ok(()) };
        let rows = reverse.tokens * parts;
        let whole = gradient.len() / rows;
        for (slot, range) in inputs.into_iter().zip([0..self.first, self.first..whole]) {
            let mut out = vec![0.0; rows * range.len()];
            let rows = out.par_chunks_mut(range.len().max(1)).zip(gradient.par_chunks(whole));
            rows.for_each(|(out, gradient)| out.copy_from_slice(&gradient[range.clone()]));
            reverse.gradients.add(slot, out);
        }
        Ok(())
    }
}

/// Copies `columns` of each of the `parts` of every row from one slot to another.
fn copy_columns(tile: &mut Tile, [input, output]: [Slot; 2], columns: Range<usize>, parts: usize) {
    let (part, width) = (tile.width(input) / parts, columns.len());
    let x = tile.take_slot(input);
    let mut out = if input == output { Vec::new() } else { tile.take_slot(output) };
    out.resize(tile.tokens() * parts * width, 0.0);
    let rows = x.par_chunks(part).zip(out.par_chunks_mut(width));
    rows.for_each(|(row, out)| out.copy_from_slice(&row[columns.clone()]));
    tile.set_slot(input, x);
    tile.set_slot(output, out);
}

/// Undoes a cut: the gradients of `pieces`, `[tokens][parts][width]` each, are put side by side and give that of `into`.
fn join_gradients(pieces: &[Piece], parts: usize, into: Slot, reverse: &mut Reverse) {
    let taken: Vec<_> =
        pieces.iter().map(|piece| (piece.width, reverse.gradients.take(piece.slot))).collect();
    let whole: usize = pieces.iter().map(|piece| piece.width).sum();
    if taken.iter().all(|(_, gradient)| gradient.is_none()) || whole == 0 {
        return;
    }
    let mut out = vec![0.0; reverse.tokens * parts * whole];
    out.par_chunks_mut(whole * ROWS).enumerate().for_each(|(i, out)| {
        for (row, out) in out.chunks_exact_mut(whole).enumerate() {
            let mut rest = out;
            for (width, gradient) in &taken {
                let (part, after) = rest.split_at_mut(*width);
                rest = after;
                if let Some(gradient) = gradient {
                    part.copy_from_slice(&gradient[(i * ROWS + row) * width..][..*width]);
                }
            }
        }
    });
    reverse.gradients.add(into, out);
}
