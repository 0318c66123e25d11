//! What goes from layer to layer beside the stream: a layer reads its part, and passes on what later layers read.

use std::ops::Range;

use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::{Recalled, Slot};
use crate::model::ModelError;
use crate::model::backward::Reverse;
use crate::model::check::Shapes;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that copies a part of [`Slot::Carried`] to `slot`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recall {
    pub part: Recalled,
    pub slot: Slot,
}

/// The operation that leaves in [`Slot::Carried`] what later layers read.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassOn {
    /// True if keys and values of this layer are among it.
    pub keys: bool,
}

impl Operation for Recall {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let (hyper, layer) = (shapes.hyper(), shapes.layer());
        let part = hyper.recalled(layer, self.part);
        let Some(columns) = part.and_then(|part| hyper.carried_columns(layer, part)) else {
            return Err(shapes.graph_error(format!("recalls {:?} that no layer keeps", self.part)));
        };
        shapes.set_width(self.slot, columns.len());
        Ok(())
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let (hyper, layer) = (&source.model.hyper, source.layer);
        let part = hyper.recalled(layer, self.part);
        let columns = part.and_then(|part| hyper.carried_columns(layer, part)).unwrap_or_default();
        Ok(Box::new(RecallStep { slot: self.slot, columns, width: hyper.carried_width(layer) }))
    }
}

#[derive(Debug, Clone)]
struct RecallStep {
    slot: Slot,
    /// Columns of the part.
    columns: Range<usize>,
    /// Width of all that is carried.
    width: usize,
}

impl Step for RecallStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        tile.with_output(self.slot, |tile, out| {
            out.resize(tile.tokens() * self.columns.len(), 0.0);
            let rows = out.par_chunks_mut(self.columns.len().max(1));
            rows.zip(tile.buffer(Slot::Carried).par_chunks(self.width.max(1)))
                .for_each(|(out, row)| out.copy_from_slice(&row[self.columns.clone()]));
        });
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(self.clone())
    }
}

impl Recorded for RecallStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let Some(gradient) = reverse.gradients.take(self.slot) else { return Ok(()) };
        let mut out = vec![0.0; reverse.tokens * self.width];
        let rows = out.par_chunks_mut(self.width.max(1)).zip(gradient.par_chunks(self.columns.len().max(1)));
        rows.for_each(|(out, gradient)| out[self.columns.clone()].copy_from_slice(gradient));
        reverse.gradients.add(Slot::Carried, out);
        Ok(())
    }
}

impl Operation for PassOn {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let (hyper, layer) = (&source.model.hyper, source.layer);
        let pieces = hyper.carried(layer + 1).into_iter().map(|(part, width)| {
            let columns = hyper.carried_columns(layer, part);
            match (hyper.made(layer, part).filter(|_| self.keys), columns) {
                (Some(slot), _) => Ok(Piece { slot, columns: 0..width }),
                (None, Some(columns)) => Ok(Piece { slot: Slot::Carried, columns }),
                (None, None) => {
                    let what = format!("passes on {part:?}, which it does not have");
                    Err(ModelError::Graph { layer, what })
                }
            }
        });
        Ok(Box::new(PassOnStep {
            pieces: pieces.collect::<Result<_, _>>()?,
            before: hyper.carried_width(layer),
        }))
    }
}

/// Columns of a slot that are passed on.
#[derive(Debug, Clone)]
struct Piece {
    slot: Slot,
    columns: Range<usize>,
}

#[derive(Debug, Clone)]
struct PassOnStep {
    /// What is passed on, side by side.
    pieces: Vec<Piece>,
    /// Width of what was carried before.
    before: usize,
}

impl PassOnStep {
    /// Returns the width of what is passed on.
    fn width(&self) -> usize {
        self.pieces.iter().map(|piece| piece.columns.len()).sum()
    }

    /// Returns the width of a slot that pieces are taken from.
    fn width_of(&self, piece: &Piece) -> usize {
        if piece.slot == Slot::Carried { self.before } else { piece.columns.len() }
    }
}

impl Step for PassOnStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let width = self.width();
        let mut out = vec![0.0; tile.tokens() * width];
        out.par_chunks_mut(width.max(1)).enumerate().for_each(|(token, mut rest)| {
            for piece in &self.pieces {
                let (out, after) = rest.split_at_mut(piece.columns.len());
                let row = &tile.buffer(piece.slot)[token * self.width_of(piece)..];
                out.copy_from_slice(&row[piece.columns.clone()]);
                rest = after;
            }
        });
        tile.set_slot(Slot::Carried, out);
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(self.clone())
    }
}

impl Recorded for PassOnStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let width = self.width();
        let Some(gradient) = reverse.gradients.take(Slot::Carried).filter(|_| width > 0) else {
            return Ok(());
        };
        let mut before = vec![0.0; reverse.tokens * self.before];
        let mut first = 0;
        for piece in &self.pieces {
            let from = first..first + piece.columns.len();
            first = from.end;
            let copy = |out: &mut [f32], of: usize, columns: Range<usize>| {
                let rows = out.par_chunks_mut(of.max(1)).zip(gradient.par_chunks(width));
                rows.for_each(|(out, row)| out[columns.clone()].copy_from_slice(&row[from.clone()]));
            };
            match piece.slot {
                Slot::Carried => copy(&mut before, self.before, piece.columns.clone()),
                slot => {
                    let mut made = vec![0.0; reverse.tokens * from.len()];
                    copy(&mut made, from.len(), 0..from.len());
                    reverse.gradients.add(slot, made);
                }
            }
        }
        reverse.gradients.add(Slot::Carried, before);
        Ok(())
    }
}
