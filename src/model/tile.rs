//! One tile of chunks on its way through one layer.

use std::mem;

use kquant_kernels::math::{self, Scratch, Seen};
use rayon::prelude::*;

use super::groups::LinearGroup;
use super::mixture::{self, Meeting};
use super::rope::Ropes;
use super::weights::{Matrix, Norm, Weights, rounded, runs};
use crate::graph::{Activation, By, Hyper, Map, NormKind, Op, SLOTS, Slot, weight_name};
use crate::model::ModelError;
use crate::model::Observer;
use crate::text::for_blocks;

/// Rows that get their bias at a time.
const BIASED: usize = 64;

/// Bound of gate and up in gpt-oss.
pub(super) const GATE_LIMIT: f32 = 7.0;

/// Activations checked at a time.
const CHECKED: usize = 1 << 12;

/// Buffers of whole chunks, `[tokens][width]` each. They keep their memory from layer to layer.
pub(super) struct Tile {
    buffers: [Vec<f32>; SLOTS],
    tokens: usize,
    /// Tokens per chunk.
    context: usize,
    /// Number of the first token, for messages.
    first: usize,
}

/// What all operations of a layer share.
pub(super) struct Layer<'a> {
    pub hyper: &'a Hyper,
    pub number: usize,
    pub ropes: &'a Ropes,
}

/// Keys `[tokens][kv_heads * head]` and values `[tokens][kv_heads * value]` of one layer.
#[derive(Debug, Default)]
pub(super) struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// What queries see.
pub(super) enum Attend<'a> {
    /// Their own chunk, which starts at position 0.
    Chunks,
    /// All that is in the cache and themselves, from position `start` on.
    Cached { start: usize, cache: &'a mut Cache },
}

impl Attend<'_> {
    fn start(&self) -> usize {
        match self {
            Self::Chunks => 0,
            Self::Cached { start, .. } => *start,
        }
    }
}

impl Tile {
    pub(super) fn new(context: usize) -> Self {
        Self { buffers: Default::default(), tokens: 0, context, first: 0 }
    }

    /// Takes the residual stream of the tile that starts at token `first`: `[tokens][hidden]`.
    pub(super) fn set_stream(&mut self, stream: Vec<f32>, hidden: usize, first: usize) {
        self.set(&[Slot::Stream], vec![stream], hidden, first);
    }

    /// Gives the residual stream back.
    pub(super) fn take_stream(&mut self) -> Vec<f32> {
        mem::take(&mut self.buffers[Slot::Stream as usize])
    }

    /// Takes the contents of `slots`, the stream among them, of the tile that starts at token `first`.
    pub(super) fn set(&mut self, slots: &[Slot], state: Vec<Vec<f32>>, hidden: usize, first: usize) {
        for (&slot, values) in slots.iter().zip(state) {
            self.buffers[slot as usize] = values;
        }
        self.tokens = self.buffers[Slot::Stream as usize].len() / hidden;
        self.first = first;
    }

    /// Puts `values` into `slot`.
    #[cfg(test)]
    pub(super) fn set_slot(&mut self, slot: Slot, values: Vec<f32>) {
        self.buffers[slot as usize] = values;
    }

    /// Gives the contents of `slots` back.
    pub(super) fn take(&mut self, slots: &[Slot]) -> Vec<Vec<f32>> {
        slots.iter().map(|&slot| mem::take(&mut self.buffers[slot as usize])).collect()
    }

    /// Width of what `slot` holds.
    pub(super) fn width(&self, slot: Slot) -> usize {
        self.buffers[slot as usize].len() / self.tokens.max(1)
    }

    /// What `slot` holds, `[tokens][width]`.
    pub(super) fn buffer(&self, slot: Slot) -> &[f32] {
        &self.buffers[slot as usize]
    }

    /// Tokens at hand.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens per chunk.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// Runs the operations of one layer.
    pub(super) fn run(
        &mut self,
        ops: &[Op],
        weights: &[Weights],
        layer: &Layer,
        attend: &mut Attend,
        observer: &mut Option<&mut dyn Observer>,
    ) -> Result<(), ModelError> {
        for (at, (op, weights)) in ops.iter().zip(weights).enumerate() {
            if let Some(map) = op.map() {
                if let Some(observer) = observer {
                    self.observe(
                        *observer,
                        &LinearGroup::names(ops, at, layer.number),
                        &map,
                        weights,
                        layer,
                    )?;
                }
                self.map(&map, weights, layer)?;
            } else {
                self.step(op, weights, layer, attend);
            }
        }
        Ok(())
    }

    /// Shows `observer` what enters the linear maps `names`, if there are such.
    fn observe(
        &self,
        observer: &mut dyn Observer,
        names: &[String],
        map: &Map,
        weights: &Weights,
        layer: &Layer,
    ) -> Result<(), ModelError> {
        match (weights, map.by) {
            _ if names.is_empty() => {}
            (Weights::Linear(matrix), _) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                observer.linear_input(&names, self.buffer(map.input), matrix.weight.inputs())?;
            }
            (Weights::Matrices(matrices), Some(by)) => {
                let inputs = matrices.first().map_or(0, |matrix| matrix.weight.inputs());
                let meeting = self.meeting(by, matrices.len(), layer.hyper);
                mixture::observe(observer, names, map, self, (&meeting, inputs))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn meeting(&self, by: By, matrices: usize, hyper: &Hyper) -> Meeting<'_> {
        let used = hyper.experts.as_ref().map_or(0, |experts| experts.used);
        Meeting { by, matrices, used, routes: self.buffer(Slot::Routes) }
    }

    /// A linear map.
    fn map(&mut self, map: &Map, weights: &Weights, layer: &Layer) -> Result<(), ModelError> {
        self.with_output(map.output, |tile, out| match (weights, map.by) {
            (Weights::Linear(matrix), _) => {
                let x = rounded(matrix.rounding, tile.buffer(map.input), matrix.weight.inputs());
                apply_matrix(matrix, tile.context, &x, out);
            }
            (Weights::Matrices(matrices), Some(by)) => {
                mixture::apply(matrices, map, tile, &tile.meeting(by, matrices.len(), layer.hyper), out);
            }
            _ => {}
        });
        self.check(map.output, &weight_name(layer.number, map.name))
    }

    /// What is no linear map.
    fn step(&mut self, op: &Op, weights: &Weights, layer: &Layer, attend: &mut Attend) {
        let hyper = layer.hyper;
        match *op {
            Op::Norm { input, output, kind, .. } => {
                if let Weights::Norms(norms) = weights {
                    self.norm(input, output, kind, norms, hyper.epsilon);
                }
            }
            Op::Rope { slot } => self.rope(slot, layer, attend.start()),
            Op::Split => {
                let query = hyper.heads * hyper.head;
                self.cut(Slot::Fused, Slot::Query, (0, query), 1);
                self.cut(Slot::Fused, Slot::Key, (query, hyper.kv_heads * hyper.head), 1);
                let rest = query + hyper.kv_heads * hyper.head;
                self.cut(Slot::Fused, Slot::Value, (rest, hyper.kv_heads * hyper.value), 1);
            }
            Op::SplitGate => {
                let half = self.width(Slot::Up) / 2;
                self.cut(Slot::Up, Slot::Gate, (0, half), 1);
                self.cut(Slot::Up, Slot::Up, (half, half), 1);
            }
            Op::Cut { input, outputs: [first, second], heads } => {
                let parts = if heads { hyper.heads } else { 1 };
                let [a, b] = [first, second].map(|slot| hyper.width(slot).unwrap_or(0) / parts);
                self.cut(input, first, (0, a), parts);
                self.cut(input, second, (a, b), parts);
            }
            Op::Join { inputs, output, heads } => {
                self.join(inputs, output, if heads { hyper.heads } else { 1 });
            }
            Op::Attention { .. } => {
                let sinks: &[f32] = if let Weights::Values(sinks) = weights { sinks } else { &[] };
                self.attention(layer, sinks, attend);
            }
            Op::Activate(activation) => self.activate(activation),
            Op::Route { .. } => {
                let correction = if let Weights::Values(values) = weights { Some(&**values) } else { None };
                if let Some(experts) = &hyper.experts {
                    self.with_output(Slot::Routes, |tile, routes| {
                        routes.resize(tile.tokens * 2 * experts.used, 0.0);
                        mixture::route(experts, correction, tile.buffer(Slot::Router), routes);
                    });
                }
            }
            Op::Combine => self.with_output(Slot::Delta, |tile, delta| {
                delta.resize(tile.tokens * hyper.hidden, 0.0);
                let routes = tile.buffer(Slot::Routes).par_chunks(tile.width(Slot::Routes));
                let said = tile.buffer(Slot::Said).par_chunks(tile.width(Slot::Said));
                let rows = delta.par_chunks_mut(hyper.hidden).zip(routes).zip(said);
                rows.for_each(|((delta, routes), said)| mixture::combine(routes, said, delta));
            }),
            Op::Add => self.with_output(Slot::Stream, |tile, stream| {
                let (hidden, scale) = (hyper.hidden, hyper.residual_scale);
                let delta = (tile.buffer(Slot::Delta), hidden);
                for_blocks(tile.context, delta, (stream, hidden), |delta, stream| {
                    if scale == 1.0 {
                        math::add(stream, delta)
                    } else {
                        math::add_scaled(stream, delta, scale)
                    }
                });
            }),
            Op::Linear { .. } | Op::Matrices { .. } => {}
        }
    }

    /// Lends buffer `slot` out for writing while the others can be read.
    fn with_output(&mut self, slot: Slot, f: impl FnOnce(&Tile, &mut Vec<f32>)) {
        let mut out = mem::take(&mut self.buffers[slot as usize]);
        f(self, &mut out);
        self.buffers[slot as usize] = out;
    }

    fn norm(&mut self, input: Slot, output: Slot, kind: NormKind, norms: &[Norm], epsilon: f32) {
        let width = self.width(input);
        let x = mem::take(&mut self.buffers[input as usize]);
        let mut out = mem::take(&mut self.buffers[output as usize]);
        out.resize(x.len(), 0.0);
        for_blocks(self.context, (&x, width), (&mut out, width), |x, out| {
            apply_norm(kind, norms, epsilon, x, out)
        });
        self.buffers[input as usize] = x;
        self.buffers[output as usize] = out;
    }

    fn activate(&mut self, activation: Activation) {
        if !activation.is_gate() {
            let f = if activation == Activation::Gelu { math::gelu_tanh } else { math::gelu_erf };
            let width = self.width(Slot::Up);
            return self.buffers[Slot::Up as usize].par_chunks_mut(width).for_each(f);
        }
        self.with_output(Slot::Gate, |tile, gate| {
            let width = gate.len() / tile.tokens;
            for_blocks(tile.context, (tile.buffer(Slot::Up), width), (gate, width), |up, gate| {
                match activation {
                    Activation::GeluGate => math::gelu_gate(gate, up),
                    Activation::ClampedGate => math::clamped_gate(gate, up, GATE_LIMIT),
                    _ => math::silu_gate(gate, up),
                }
            });
        });
    }

    fn rope(&mut self, slot: Slot, layer: &Layer, start: usize) {
        let width = self.width(slot);
        let head = layer.hyper.turned_head(slot);
        let rope = layer.ropes.of(layer.hyper, layer.number);
        let chunks = self.buffers[slot as usize].par_chunks_mut(self.context * width);
        chunks.for_each(|chunk| rope.rotate(chunk, width / head, head, start));
    }

    /// Copies `width` columns from `from` on, of each of the `parts` of every row of `input`, to `output`.
    fn cut(&mut self, input: Slot, output: Slot, (from, width): (usize, usize), parts: usize) {
        let part = self.width(input) / parts;
        let x = mem::take(&mut self.buffers[input as usize]);
        let mut out =
            if input == output { Vec::new() } else { mem::take(&mut self.buffers[output as usize]) };
        out.resize(self.tokens * parts * width, 0.0);
        let rows = x.par_chunks(part).zip(out.par_chunks_mut(width));
        rows.for_each(|(row, out)| out.copy_from_slice(&row[from..from + width]));
        self.buffers[input as usize] = x;
        self.buffers[output as usize] = out;
    }

    /// Puts the `parts` of each row of both inputs side by side.
    fn join(&mut self, inputs: [Slot; 2], output: Slot, parts: usize) {
        self.with_output(output, |tile, out| {
            let [a, b] = inputs.map(|slot| tile.width(slot) / parts);
            out.resize(tile.tokens * parts * (a + b), 0.0);
            let [first, second] = inputs.map(|slot| tile.buffer(slot));
            let rows = out.par_chunks_mut(a + b).zip(first.par_chunks(a)).zip(second.par_chunks(b));
            rows.for_each(|((out, first), second)| {
                out[..a].copy_from_slice(first);
                out[a..].copy_from_slice(second);
            });
        });
    }

    fn attention(&mut self, layer: &Layer, sinks: &[f32], attend: &mut Attend) {
        let hyper = layer.hyper;
        let heads = hyper.attention(layer.number);
        let (query, attended) = (hyper.heads * hyper.head, hyper.heads * hyper.value);
        let (key, value) = (hyper.kv_heads * hyper.head, hyper.kv_heads * hyper.value);
        let context = self.context;
        self.with_output(Slot::Attended, |tile, out| {
            out.resize(tile.tokens * attended, 0.0);
            if let Attend::Cached { cache, .. } = attend {
                cache.keys.extend_from_slice(tile.buffer(Slot::Key));
                cache.values.extend_from_slice(tile.buffer(Slot::Value));
                let seen = Seen { keys: &cache.keys, values: &cache.values, sinks };
                return heads.attend(out, tile.buffer(Slot::Query), seen, &mut Scratch::default());
            }
            let chunk = |slot: Slot, width: usize| tile.buffer(slot).par_chunks(context * width);
            out.par_chunks_mut(context * attended)
                .zip(chunk(Slot::Query, query))
                .zip(chunk(Slot::Key, key))
                .zip(chunk(Slot::Value, value))
                .for_each_init(Scratch::default, |scratch, (((out, q), keys), values)| {
                    heads.attend(out, q, Seen { keys, values, sinks }, scratch)
                });
        });
    }

    /// Overflow is found where it happens.
    fn check(&self, slot: Slot, tensor: &str) -> Result<(), ModelError> {
        let values = &self.buffers[slot as usize];
        match first_non_finite(values) {
            None => Ok(()),
            Some(at) => Err(ModelError::Activation {
                tensor: tensor.to_owned(),
                token: self.first + at / self.width(slot),
                value: values[at],
            }),
        }
    }
}

/// The place of the first value that is NaN or infinite.
pub(super) fn first_non_finite(values: &[f32]) -> Option<usize> {
    // Blocks are asked as a whole: without an early end, the question takes vectors.
    let bad = |block: &[f32]| block.iter().fold(false, |bad, v| bad | !v.is_finite());
    let block = values.par_chunks(CHECKED).position_first(bad)?;
    (block * CHECKED..values.len()).find(|&at| !values[at].is_finite())
}

/// `out = norm(x)`, both `[rows][width]`: by one norm over each row or over each of its parts, or by a norm for each part.
pub(super) fn apply_norm(kind: NormKind, norms: &[Norm], epsilon: f32, x: &[f32], out: &mut [f32]) {
    for (run, norm) in runs(norms, x.len()) {
        let (x, out) = (&x[run.clone()], &mut out[run]);
        match kind {
            NormKind::Rms => math::rms_norm(out, x, &norm.weight, epsilon),
            NormKind::Layer => math::layer_norm(out, x, &norm.weight, norm.bias.as_deref(), epsilon),
        }
    }
}

/// `out = x * weight' + bias`: x `[rows][inputs]`, out `[rows][outputs]`.
pub(super) fn apply_matrix(matrix: &Matrix, context: usize, x: &[f32], out: &mut Vec<f32>) {
    apply_linear(matrix, context, x, out);
    if let Some(bias) = &matrix.bias {
        out.par_chunks_mut(bias.len() * BIASED).for_each(|out| math::add_bias(out, bias));
    }
}

/// [`apply_matrix`] without the bias.
pub(super) fn apply_linear(matrix: &Matrix, context: usize, x: &[f32], out: &mut Vec<f32>) {
    let (inputs, outputs) = (matrix.weight.inputs(), matrix.weight.outputs());
    out.resize(x.len() / inputs * outputs, 0.0);
    for_blocks(context, (x, inputs), (out, outputs), |x, out| matrix.weight.apply(out, x));
}
