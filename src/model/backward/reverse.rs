//! The operations of a layer, walked backwards.

use kquant_kernels::math::{self, GradientScratch, Seen, SeenGradients};
use rayon::prelude::*;

use super::super::ModelError;
use super::super::products::Packed;
use super::super::tile::{GATE_LIMIT, Layer, first_non_finite};
use super::super::weights::{Norm, Weights, runs};
use super::gradients::{Gradients, copied, scale};
use super::layer::LayerWeights;
use super::mixture;
use super::tape::Read;
use crate::graph::{Activation, By, Map, NormKind, Op, Slot, weight_name};
use crate::model::GradientObserver;
use crate::text::for_blocks;

/// Rows that one task takes.
const ROWS: usize = 64;

/// One tile of chunks on its way back through one layer.
pub(super) struct Reverse<'a> {
    pub layer: &'a Layer<'a>,
    /// Tokens per chunk.
    pub context: usize,
    /// Tokens of the tile.
    pub tokens: usize,
    /// Number of the first token, for messages.
    pub first: usize,
}

impl Reverse<'_> {
    /// Takes the gradient of the stream after the layer to that before it, both `[tokens][hidden]`. `observer` sees those of
    /// the outputs of linear maps.
    pub(super) fn run(
        &self,
        ops: &[Op],
        (weights, tape): (&LayerWeights, &[Read]),
        gradient: Vec<f32>,
        observer: &mut dyn GradientObserver,
    ) -> Result<Vec<f32>, ModelError> {
        let mut gradients = Gradients::default();
        gradients.add(Slot::Stream, gradient);
        for (at, op) in ops.iter().enumerate().rev() {
            let (weights, back, read) = (&weights.forward[at], &weights.back[at], &tape[at]);
            match op.map() {
                Some(map) => self.map(&map, back, read, &mut gradients, observer)?,
                None => self.step(op, weights, read, &mut gradients),
            }
        }
        Ok(gradients.take(Slot::Stream).unwrap_or_default())
    }

    /// A linear map.
    fn map(
        &self,
        map: &Map,
        back: &[Packed],
        read: &Read,
        gradients: &mut Gradients,
        observer: &mut dyn GradientObserver,
    ) -> Result<(), ModelError> {
        let Some(first) = back.first() else { return Ok(()) };
        // Transposed: what leaves forward enters here.
        let (outputs, inputs) = (first.inputs(), first.outputs());
        let tensor = weight_name(self.layer.number, map.name);
        let parts = self.parts(map.by, back.len());
        let zeros = || vec![0.0; self.tokens * parts * outputs];
        let gradient = gradients.take(map.output).unwrap_or_else(zeros);
        check(&tensor, &gradient, parts * outputs, self.first)?;
        let mut out = vec![0.0; self.tokens * read.width];
        if let Some(by) = map.by {
            let used = self.layer.hyper.experts.as_ref().map_or(0, |experts| experts.used);
            let meeting = mixture::meeting(by, back.len(), used, read.of(Slot::Routes));
            let block =
                mixture::Block { meeting, context: self.context, tokens: self.tokens, inputs, outputs };
            block.observe(&tensor, &gradient, observer)?;
            block.apply(back, &gradient, &mut out, read.width);
        } else {
            observer.output_gradient(&tensor, &gradient, outputs)?;
            for_blocks(self.context, (&gradient, outputs), (&mut out, inputs), |gradient, out| {
                first.apply(out, gradient);
            });
        }
        gradients.add(map.input, out);
        Ok(())
    }

    /// Matrices that a row meets.
    fn parts(&self, by: Option<By>, matrices: usize) -> usize {
        match by {
            None => 1,
            Some(By::Heads) => matrices,
            Some(By::Routes) => self.layer.hyper.experts.as_ref().map_or(0, |experts| experts.used),
        }
    }

    /// What is no linear map. Where nothing that follows read the output, nothing flows back.
    fn step(&self, op: &Op, weights: &Weights, read: &Read, gradients: &mut Gradients) {
        let hyper = self.layer.hyper;
        match *op {
            Op::Norm { input, output, kind, .. } => {
                if let (Some(mut gradient), Weights::Norms(norms)) = (gradients.take(output), weights) {
                    norm_gradient(kind, norms, hyper.epsilon, read.of(input), &mut gradient);
                    gradients.add(input, gradient);
                }
            }
            Op::Rope { slot } => {
                if let Some(mut gradient) = gradients.take(slot) {
                    self.turn_back(slot, &mut gradient);
                    gradients.add(slot, gradient);
                }
            }
            Op::Split => {
                let key = hyper.kv_heads * hyper.head;
                let widths = [hyper.heads * hyper.head, key, hyper.kv_heads * hyper.value];
                self.join([Slot::Query, Slot::Key, Slot::Value], widths, 1, Slot::Fused, gradients);
            }
            Op::SplitGate => {
                let width = read.width / 2;
                self.join([Slot::Gate, Slot::Up], [width; 2], 1, Slot::Up, gradients);
            }
            Op::Cut { input, outputs, heads } => {
                let parts = if heads { hyper.heads } else { 1 };
                let widths = outputs.map(|slot| hyper.width(slot).unwrap_or(0) / parts);
                self.join(outputs, widths, parts, input, gradients);
            }
            Op::Join { inputs, output, heads } => {
                let parts = if heads { hyper.heads } else { 1 };
                if let Some(gradient) = gradients.take(output) {
                    self.cut(&gradient, inputs, read.width / parts, parts, gradients);
                }
            }
            Op::Attention { .. } => {
                let sinks: &[f32] = if let Weights::Values(sinks) = weights { sinks } else { &[] };
                if let Some(gradient) = gradients.take(Slot::Attended) {
                    self.attention(sinks, read, &gradient, gradients);
                }
            }
            Op::Activate(activation) => self.activate(activation, read, gradients),
            Op::Route { .. } => {
                let correction = if let Weights::Values(values) = weights { Some(&**values) } else { None };
                if let (Some(gradient), Some(experts)) = (gradients.take(Slot::Routes), &hyper.experts) {
                    let router = mixture::route(experts, correction, read.of(Slot::Router), &gradient);
                    gradients.add(Slot::Router, router);
                }
            }
            Op::Combine => {
                if let Some(gradient) = gradients.take(Slot::Delta) {
                    let (said, routes) = (read.of(Slot::Said), read.of(Slot::Routes));
                    let [said, routes] = mixture::combine(said, routes, &gradient, hyper.hidden);
                    gradients.add(Slot::Said, said);
                    gradients.add(Slot::Routes, routes);
                }
            }
            Op::Add => {
                if let Some(gradient) = gradients.take(Slot::Stream) {
                    let mut delta = copied(&gradient);
                    scale(&mut delta, hyper.residual_scale);
                    gradients.add(Slot::Delta, delta);
                    gradients.add(Slot::Stream, gradient);
                }
            }
            Op::Linear { .. } | Op::Matrices { .. } => {}
        }
    }

    fn turn_back(&self, slot: Slot, gradient: &mut [f32]) {
        let head = self.layer.hyper.turned_head(slot);
        let rope = self.layer.ropes.of(self.layer.hyper, self.layer.number);
        let width = gradient.len() / self.tokens;
        let chunks = gradient.par_chunks_mut(self.context * width);
        chunks.for_each(|chunk| rope.rotate_gradient(chunk, width / head, head, 0));
    }

    /// Undoes a cut: the gradients of `slots`, `[tokens][parts][width]` each, side by side are that of `into`.
    fn join<const N: usize>(
        &self,
        slots: [Slot; N],
        widths: [usize; N],
        parts: usize,
        into: Slot,
        gradients: &mut Gradients,
    ) {
        let taken = slots.map(|slot| gradients.take(slot));
        let whole: usize = widths.iter().sum();
        if taken.iter().all(Option::is_none) || whole == 0 {
            return;
        }
        let mut out = vec![0.0; self.tokens * parts * whole];
        out.par_chunks_mut(whole * ROWS).enumerate().for_each(|(i, out)| {
            for (row, out) in out.chunks_exact_mut(whole).enumerate() {
                let mut rest = out;
                for (gradient, &width) in taken.iter().zip(&widths) {
                    let (part, after) = rest.split_at_mut(width);
                    rest = after;
                    if let Some(gradient) = gradient {
                        part.copy_from_slice(&gradient[(i * ROWS + row) * width..][..width]);
                    }
                }
            }
        });
        gradients.add(into, out);
    }

    /// Undoes a join of two, the first of which is `width` wide in each of `parts`.
    fn cut(&self, gradient: &[f32], slots: [Slot; 2], width: usize, parts: usize, gradients: &mut Gradients) {
        let whole = gradient.len() / (self.tokens * parts);
        for (slot, range) in slots.into_iter().zip([0..width, width..whole]) {
            let mut out = vec![0.0; self.tokens * parts * range.len()];
            let rows = out.par_chunks_mut(range.len().max(1)).zip(gradient.par_chunks(whole));
            rows.for_each(|(out, gradient)| out.copy_from_slice(&gradient[range.clone()]));
            gradients.add(slot, out);
        }
    }

    fn attention(&self, sinks: &[f32], read: &Read, gradient: &[f32], gradients: &mut Gradients) {
        let hyper = self.layer.hyper;
        let heads = hyper.attention(self.layer.number);
        let attended = self.context * hyper.heads * hyper.value;
        let lengths = [hyper.heads * hyper.head, hyper.kv_heads * hyper.head, hyper.kv_heads * hyper.value]
            .map(|width| self.context * width);
        let slots = [Slot::Query, Slot::Key, Slot::Value];
        let [q, k, v] = slots.map(|slot| read.of(slot));
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|values| vec![0.0; values.len()]);
        dq.par_chunks_mut(lengths[0])
            .zip(dk.par_chunks_mut(lengths[1]))
            .zip(dv.par_chunks_mut(lengths[2]))
            .zip(q.par_chunks(lengths[0]))
            .zip(k.par_chunks(lengths[1]))
            .zip(v.par_chunks(lengths[2]))
            .zip(gradient.par_chunks(attended))
            .for_each_init(
                GradientScratch::default,
                |scratch, ((((((queries, dk), dv), q), keys), values), d)| {
                    let out = SeenGradients { queries, keys: dk, values: dv };
                    heads.attend_gradient(out, d, q, Seen { keys, values, sinks }, scratch);
                },
            );
        for (slot, gradient) in slots.into_iter().zip([dq, dk, dv]) {
            gradients.add(slot, gradient);
        }
    }

    fn activate(&self, activation: Activation, read: &Read, gradients: &mut Gradients) {
        let written = if activation.is_gate() { Slot::Gate } else { Slot::Up };
        let Some(mut gradient) = gradients.take(written) else { return };
        let step = ROWS * (gradient.len() / self.tokens).max(1);
        let up = read.of(Slot::Up);
        if !activation.is_gate() {
            let f = match activation {
                Activation::Gelu => math::gelu_tanh_gradient,
                _ => math::gelu_erf_gradient,
            };
            gradient.par_chunks_mut(step).zip(up.par_chunks(step)).for_each(|(gradient, up)| f(gradient, up));
            return gradients.add(Slot::Up, gradient);
        }
        let mut d_up = vec![0.0; gradient.len()];
        let rows = gradient.par_chunks_mut(step).zip(d_up.par_chunks_mut(step));
        let rows = rows.zip(read.of(Slot::Gate).par_chunks(step)).zip(up.par_chunks(step));
        rows.for_each(|(((d_gate, d_up), gate), up)| match activation {
            Activation::GeluGate => math::gelu_gate_gradient(d_gate, d_up, gate, up),
            Activation::ClampedGate => math::clamped_gate_gradient(d_gate, d_up, gate, up, GATE_LIMIT),
            _ => math::silu_gate_gradient(d_gate, d_up, gate, up),
        });
        gradients.add(Slot::Gate, gradient);
        gradients.add(Slot::Up, d_up);
    }
}

/// `gradient` of a norm's output becomes that of its input `x`, both `[rows][width]`; `norms` as in the forward pass.
pub(super) fn norm_gradient(kind: NormKind, norms: &[Norm], epsilon: f32, x: &[f32], gradient: &mut [f32]) {
    let row: usize = norms.iter().map(|norm| norm.weight.len()).sum();
    let step = ROWS * row.max(1);
    gradient.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(gradient, x)| {
        for (run, norm) in runs(norms, x.len()) {
            let (gradient, x) = (&mut gradient[run.clone()], &x[run]);
            match kind {
                NormKind::Rms => math::rms_norm_gradient(gradient, x, &norm.weight, epsilon),
                NormKind::Layer => math::layer_norm_gradient(gradient, x, &norm.weight, epsilon),
            }
        }
    });
}

/// Checks the gradient of the output of `tensor`, whose rows are `width` wide and start at token `first`.
pub(super) fn check(tensor: &str, gradient: &[f32], width: usize, first: usize) -> Result<(), ModelError> {
    match first_non_finite(gradient) {
        None => Ok(()),
        Some(at) => Err(ModelError::Gradient {
            tensor: tensor.to_owned(),
            token: first + at / width.max(1),
            value: gradient[at],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tile::apply_norm;
    use super::*;

    #[test]
    fn parts_of_a_row_meet_norms_of_their_own() {
        const EPSILON: f32 = 1e-5;
        let (width, parts, rows) = (6, 3, ROWS + 5);
        let noise = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * i * 7 + i * seed + seed) % 101) as f32 / 50.0 - 1.0).collect()
        };
        let norms: Vec<Norm> = (0..parts)
            .map(|part| Norm { weight: noise(width, part + 2), bias: Some(noise(width, part + 9)) })
            .collect();
        let (x, gradient) = (noise(rows * parts * width, 13), noise(rows * parts * width, 17));
        for kind in [NormKind::Rms, NormKind::Layer] {
            let (mut out, mut back) = (vec![f32::NAN; x.len()], gradient.clone());
            apply_norm(kind, &norms, EPSILON, &x, &mut out);
            norm_gradient(kind, &norms, EPSILON, &x, &mut back);
            for (i, norm) in norms.iter().enumerate() {
                let part = |values: &[f32]| -> Vec<f32> {
                    values.chunks(width).skip(i).step_by(parts).flatten().copied().collect()
                };
                let (own, mut own_back) = (part(&x), part(&gradient));
                let mut own_out = vec![f32::NAN; own.len()];
                apply_norm(kind, std::slice::from_ref(norm), EPSILON, &own, &mut own_out);
                norm_gradient(kind, std::slice::from_ref(norm), EPSILON, &own, &mut own_back);
                assert_eq!(part(&out), own_out);
                assert_eq!(part(&back), own_back);
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let mut gradient = vec![0.5; 40];
        assert!(check("t", &gradient, 4, 100).is_ok());
        gradient[30] = f32::NEG_INFINITY;
        let error = check("blk.3.ffn_up.weight", &gradient, 4, 100).unwrap_err().to_string();
        let expected =
            "tensor `blk.3.ffn_up.weight`: the gradient of its output for token 107 of the text is -inf";
        assert!(error.contains(expected), "{error}");
    }
}
