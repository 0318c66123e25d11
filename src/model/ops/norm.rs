//! Norms of a slot's rows, or of the parts of its rows.

use std::ops::Range;

use kquant_kernels::math;
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::{NormKind, Slot};
use crate::model::backward::{ROWS, Reverse, copied};
use crate::model::check::Shapes;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;
use crate::model::{ModelError, WeightObserver};
use crate::tensor::TensorName;
use crate::text::for_blocks;

/// The operation `output = norm(input)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    pub input: Slot,
    pub output: Slot,
    pub name: &'static str,
    pub kind: NormKind,
}

impl Operation for Norm {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let (name, tensor) = shapes.norm(self.name)?;
        let of_heads =
            matches!(self.input, Slot::Query | Slot::Key | Slot::Scanned) && tensor.shape.len() > 1;
        let (found, head) =
            (tensor.columns() as usize, shapes.hyper().part(self.input, shapes.layer(), of_heads));
        let whole = shapes.width(self.input).unwrap_or(found);
        let wanted = match of_heads {
            true => vec![head as u64, (whole / head) as u64],
            // A tensor as wide as a head is applied part by part, with weights that all heads share.
            false => vec![if found == head { head } else { whole } as u64],
        };
        shapes.check_tensor(&name, &wanted)?;
        shapes.check_bias(self.name, &wanted)?;
        shapes.set_width(self.output, whole);
        Ok(())
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let name = source.full(self.name);
        let norms = source.model.norms(&name, self.kind)?;
        let weight = Some(source.model.norm_weight(&name));
        Ok(Box::new(NormStep { input: self.input, output: self.output, weight, norms }))
    }
}

/// The operation that divides each head of `slot` by its root mean square.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normalize {
    pub slot: Slot,
}

impl Operation for Normalize {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let hyper = &source.model.hyper;
        let (head, epsilon) = (hyper.part(self.slot, source.layer, false), hyper.epsilon);
        let parts = vec![NormWeights { weight: vec![1.0; head], bias: None }];
        let norms = Norms { kind: NormKind::Rms, epsilon, parts };
        Ok(Box::new(NormStep { input: self.slot, output: self.slot, weight: None, norms }))
    }
}

/// The operation `output = norm(input)`, whose weights are those of the tensor `blk.N.{name}` over the root of its width.
///
/// Source: `Gemma4TextRouter` of transformers.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormBy {
    pub input: Slot,
    pub output: Slot,
    pub name: &'static str,
}

impl Operation for NormBy {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let width = shapes.width(self.input).unwrap_or(0);
        shapes.set_width(self.output, width);
        shapes.check_tensor(self.name, &[width as u64])
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let scales = source.whole(self.name)?;
        let root = (scales.len() as f32).sqrt();
        let weight = scales.iter().map(|scale| scale / root).collect();
        let parts = vec![NormWeights { weight, bias: None }];
        let norms = Norms { kind: NormKind::Rms, epsilon: source.model.hyper.epsilon, parts };
        Ok(Box::new(NormStep { input: self.input, output: self.output, weight: None, norms }))
    }
}

#[derive(Debug)]
struct NormStep {
    input: Slot,
    output: Slot,
    /// Name of the tensor of its weights, if it has some.
    weight: Option<String>,
    norms: Norms,
}

impl Step for NormStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let width = tile.width(self.input);
        let x = tile.take_slot(self.input);
        let mut out = tile.take_slot(self.output);
        out.resize(x.len(), 0.0);
        for_blocks(tile.context(), (&x, width), (&mut out, width), |x, out| self.norms.apply(x, out));
        tile.set_slot(self.input, x);
        tile.set_slot(self.output, out);
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(NormRecord { step: self, x: copied(tile.buffer(self.input)) })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct NormRecord<'a> {
    step: &'a NormStep,
    /// Input of the norm, `[tokens][width]`.
    x: Vec<f32>,
}

impl Recorded for NormRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(mut gradient) = reverse.gradients.take(self.step.output) {
            if let (Some(observer), Some(name)) = (reverse.observer.weights(), &self.step.weight) {
                self.step.norms.show(name, &self.x, &gradient, observer);
            }
            self.step.norms.gradient(&self.x, &mut gradient);
            reverse.gradients.add(self.step.input, gradient);
        }
        Ok(())
    }
}

/// Weight and bias of a norm, `[width]` each, where `width` is the length of the part that is normed.
#[derive(Debug)]
pub(in crate::model) struct NormWeights {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// A norm of whole rows or of each of their equal parts, or several norms that alternate over the parts of a row.
#[derive(Debug)]
pub(in crate::model) struct Norms {
    pub kind: NormKind,
    /// Number that is added to the variance.
    pub epsilon: f32,
    /// Weights of the only norm, or of one norm for each part of a row.
    pub parts: Vec<NormWeights>,
}

impl Norms {
    /// Cuts `values` values, which are whole rows, into runs and pairs each run with its norm: one norm covers everything,
    /// several repeat row by row.
    fn runs(&self, values: usize) -> impl Iterator<Item = (Range<usize>, &NormWeights)> {
        let length = if let [first, _, ..] = &*self.parts { first.weight.len() } else { values };
        let starts = (0..values).step_by(length.max(1));
        starts.map(move |start| start..start + length).zip(self.parts.iter().cycle())
    }

    /// Computes `out = norm(x)`, both `[rows][width]`.
    pub(in crate::model) fn apply(&self, x: &[f32], out: &mut [f32]) {
        for (run, norm) in self.runs(x.len()) {
            let (x, out) = (&x[run.clone()], &mut out[run]);
            match self.kind {
                NormKind::Rms => math::rms_norm(out, x, &norm.weight, self.epsilon),
                NormKind::Layer => math::layer_norm(out, x, &norm.weight, norm.bias.as_deref(), self.epsilon),
            }
        }
    }

    /// Computes what [`apply`](Self::apply) does in parallel.
    pub(in crate::model) fn apply_to_rows(&self, x: &[f32], out: &mut [f32]) {
        let row: usize = self.parts.iter().map(|norm| norm.weight.len()).sum();
        let step = ROWS * row.max(1);
        out.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(out, x)| self.apply(x, out));
    }

    /// Shows `observer` the gradients of the weights in the tensor `name` and of the biases that belong to it, by `gradient`, that of the
    /// output, and the input `x`, both `[rows][width]`.
    pub(in crate::model) fn show(
        &self,
        name: &str,
        x: &[f32],
        gradient: &[f32],
        observer: &mut dyn WeightObserver,
    ) {
        let width: usize = self.parts.iter().map(|norm| norm.weight.len()).sum();
        let ones = |norm: &NormWeights| NormWeights { weight: vec![1.0; norm.weight.len()], bias: None };
        let bare = Self { parts: self.parts.iter().map(ones).collect(), ..*self };
        let mut values = vec![0.0; x.len()];
        let step = ROWS * width.max(1);
        values.par_chunks_mut(step).zip(x.par_chunks(step).zip(gradient.par_chunks(step))).for_each(
            |(values, (x, gradient))| {
                bare.apply(x, values);
                values.iter_mut().zip(gradient).for_each(|(value, gradient)| *value *= gradient);
            },
        );
        observer.columns(name, 0, &values, width);
        if self.parts.iter().any(|norm| norm.bias.is_some()) {
            observer.columns(&TensorName(name).bias(), 0, gradient, width);
        }
    }

    /// Replaces `gradient`, that of the output, by that of the input `x`, both `[rows][width]`.
    pub(in crate::model) fn gradient(&self, x: &[f32], gradient: &mut [f32]) {
        let row: usize = self.parts.iter().map(|norm| norm.weight.len()).sum();
        let step = ROWS * row.max(1);
        gradient.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(gradient, x)| {
            for (run, norm) in self.runs(x.len()) {
                let (gradient, x) = (&mut gradient[run.clone()], &x[run]);
                match self.kind {
                    NormKind::Rms => math::rms_norm_gradient(gradient, x, &norm.weight, self.epsilon),
                    NormKind::Layer => math::layer_norm_gradient(gradient, x, &norm.weight, self.epsilon),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_row_have_norms_of_their_own() {
        let (width, parts, rows) = (6, 3, ROWS + 5);
        let noise = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * i * 7 + i * seed + seed) % 101) as f32 / 50.0 - 1.0).collect()
        };
        let part = |part| NormWeights { weight: noise(width, part + 2), bias: Some(noise(width, part + 9)) };
        let (x, gradient) = (noise(rows * parts * width, 13), noise(rows * parts * width, 17));
        let through = |norms: &Norms, x: &[f32], gradient: &[f32]| {
            let (mut out, mut back) = (vec![f32::NAN; x.len()], gradient.to_vec());
            norms.apply(x, &mut out);
            norms.gradient(x, &mut back);
            [out, back]
        };
        for kind in [NormKind::Rms, NormKind::Layer] {
            let of = |parts: Vec<NormWeights>| Norms { kind, epsilon: 1e-5, parts };
            let all = through(&of((0..parts).map(part).collect()), &x, &gradient);
            for i in 0..parts {
                let own = |values: &[f32]| -> Vec<f32> {
                    values.chunks(width).skip(i).step_by(parts).flatten().copied().collect()
                };
                let alone = through(&of(vec![part(i)]), &own(&x), &own(&gradient));
                assert_eq!(all.each_ref().map(|values| own(values)), alone);
            }
        }
    }
}
