//! One tile of chunks on its way through one layer.

use std::mem;

use kquant_kernels::math::{self, Rope, Scratch};
use rayon::prelude::*;

use super::blocks::for_blocks;
use super::graph::weight_name;
use super::graph::{NormKind, Op, SLOTS, Slot};
use super::groups::LinearGroup;
use super::weights::{Matrix, Norm, Weights, rounded};
use super::{Hyper, ModelError};
use crate::calibrate::Observer;

/// Rows that get their bias at a time.
const BIASED: usize = 64;

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
    pub rope: &'a Rope,
}

/// Keys and values of one layer, `[tokens][kv_heads * head]` each.
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

    /// Gives the contents of `slots` back.
    pub(super) fn take(&mut self, slots: &[Slot]) -> Vec<Vec<f32>> {
        slots.iter().map(|&slot| mem::take(&mut self.buffers[slot as usize])).collect()
    }

    fn width(&self, slot: Slot) -> usize {
        self.buffers[slot as usize].len() / self.tokens.max(1)
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
            match (op, weights) {
                (&Op::Norm { input, output, kind, .. }, Weights::Norm(norm)) => {
                    self.with_output(output, |tile, out| {
                        let hidden = layer.hyper.hidden;
                        out.resize(tile.tokens * hidden, 0.0);
                        let x = &tile.buffers[input as usize];
                        for_blocks(tile.context, (x, hidden), (out, hidden), |x, out| {
                            apply_norm(kind, norm, layer.hyper.epsilon, x, out);
                        });
                    });
                }
                (&Op::Linear { input, output, name }, Weights::Linear(matrix)) => {
                    let tensor = weight_name(layer.number, name);
                    if let Some(observer) = observer {
                        let group = LinearGroup::names(ops, at, layer.number);
                        let names: Vec<&str> = group.iter().map(String::as_str).collect();
                        if !names.is_empty() {
                            let x = &self.buffers[input as usize];
                            observer.linear_input(&names, x, matrix.weight.inputs())?;
                        }
                    }
                    self.with_output(output, |tile, out| {
                        let x =
                            rounded(matrix.rounding, &tile.buffers[input as usize], matrix.weight.inputs());
                        apply_matrix(matrix, tile.context, &x, out);
                    });
                    self.check(output, &tensor)?;
                }
                (&Op::Rope { slot }, _) => self.rope(slot, layer, attend.start()),
                (Op::Split, _) => self.split(layer.hyper),
                (Op::Attention, _) => self.attention(layer.hyper, attend),
                (Op::SiluGate, _) => {
                    self.with_output(Slot::Gate, |tile, gate| {
                        let width = gate.len() / tile.tokens;
                        let up = &tile.buffers[Slot::Up as usize];
                        for_blocks(tile.context, (up, width), (gate, width), |up, gate| {
                            math::silu_gate(gate, up);
                        });
                    });
                }
                (Op::Gelu, _) => {
                    let width = self.width(Slot::Up);
                    let rows = self.buffers[Slot::Up as usize].par_chunks_mut(width);
                    rows.for_each(math::gelu_tanh);
                }
                (Op::Add, _) => {
                    self.with_output(Slot::Stream, |tile, stream| {
                        let hidden = layer.hyper.hidden;
                        let delta = &tile.buffers[Slot::Delta as usize];
                        for_blocks(tile.context, (delta, hidden), (stream, hidden), |delta, stream| {
                            math::add(stream, delta);
                        });
                    });
                }
                (Op::Norm { .. } | Op::Linear { .. }, _) => {}
            }
        }
        Ok(())
    }

    /// Lends buffer `slot` out for writing while the others can be read.
    fn with_output(&mut self, slot: Slot, f: impl FnOnce(&Tile, &mut Vec<f32>)) {
        let mut out = mem::take(&mut self.buffers[slot as usize]);
        f(self, &mut out);
        self.buffers[slot as usize] = out;
    }

    fn rope(&mut self, slot: Slot, layer: &Layer, start: usize) {
        let width = self.width(slot);
        let chunks = self.buffers[slot as usize].par_chunks_mut(self.context * width);
        chunks.for_each(|chunk| layer.rope.rotate(chunk, width / layer.hyper.head, layer.hyper.head, start));
    }

    fn split(&mut self, hyper: &Hyper) {
        let fused = mem::take(&mut self.buffers[Slot::Fused as usize]);
        let (q, kv) = (hyper.heads * hyper.head, hyper.kv_heads * hyper.head);
        for (slot, from, width) in [(Slot::Query, 0, q), (Slot::Key, q, kv), (Slot::Value, q + kv, kv)] {
            let out = &mut self.buffers[slot as usize];
            out.resize(self.tokens * width, 0.0);
            let rows = fused.par_chunks(q + 2 * kv).zip(out.par_chunks_mut(width));
            rows.for_each(|(row, out)| out.copy_from_slice(&row[from..from + width]));
        }
        self.buffers[Slot::Fused as usize] = fused;
    }

    fn attention(&mut self, hyper: &Hyper, attend: &mut Attend) {
        let heads = hyper.attention();
        let (q_width, kv_width) = (hyper.heads * hyper.head, hyper.kv_heads * hyper.head);
        let context = self.context;
        self.with_output(Slot::Attended, |tile, out| {
            out.resize(tile.tokens * q_width, 0.0);
            if let Attend::Cached { cache, .. } = attend {
                cache.keys.extend_from_slice(&tile.buffers[Slot::Key as usize]);
                cache.values.extend_from_slice(&tile.buffers[Slot::Value as usize]);
                let q = &tile.buffers[Slot::Query as usize];
                return heads.attend(out, q, &cache.keys, &cache.values, &mut Scratch::default());
            }
            let chunk = |slot: Slot, width: usize| tile.buffers[slot as usize].par_chunks(context * width);
            out.par_chunks_mut(context * q_width)
                .zip(chunk(Slot::Query, q_width))
                .zip(chunk(Slot::Key, kv_width))
                .zip(chunk(Slot::Value, kv_width))
                .for_each_init(Scratch::default, |scratch, (((out, q), k), v)| {
                    heads.attend(out, q, k, v, scratch)
                });
        });
    }

    /// Overflow is found where it happens.
    fn check(&self, slot: Slot, tensor: &str) -> Result<(), ModelError> {
        let values = &self.buffers[slot as usize];
        // Blocks are asked as a whole: without an early end, the question takes vectors.
        let bad = |block: &[f32]| block.iter().fold(false, |bad, v| bad | !v.is_finite());
        let block = values.par_chunks(CHECKED).position_first(bad);
        let first = |block| (block * CHECKED..values.len()).find(|&at| !values[at].is_finite());
        match block.and_then(first) {
            None => Ok(()),
            Some(at) => Err(ModelError::Activation {
                tensor: tensor.to_owned(),
                token: self.first + at / self.width(slot),
                value: values[at],
            }),
        }
    }
}

/// `out = norm(x)`, both `[rows][hidden]`.
pub(super) fn apply_norm(kind: NormKind, norm: &Norm, epsilon: f32, x: &[f32], out: &mut [f32]) {
    match kind {
        NormKind::Rms => math::rms_norm(out, x, &norm.weight, epsilon),
        NormKind::Layer => math::layer_norm(out, x, &norm.weight, norm.bias.as_deref(), epsilon),
    }
}

/// `out = x * weight' + bias`: x `[rows][inputs]`, out `[rows][outputs]`.
fn apply_matrix(matrix: &Matrix, context: usize, x: &[f32], out: &mut Vec<f32>) {
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
