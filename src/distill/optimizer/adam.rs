//! Adam with decoupled weight decay, in the coordinates of the weights or in those of the Kronecker factors.
//!
//! The rule is that of Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, [arXiv:1711.05101], with a decay of
//! zero: a student that is near its teacher is pulled back by the teacher. In the eigenvectors of the factors, where
//! squared gradients are nearly independent, it is that of Vyas et al., SOAP, 2024, [arXiv:2409.11321].
//!
//! [arXiv:1711.05101]: https://arxiv.org/abs/1711.05101
//! [arXiv:2409.11321]: https://arxiv.org/abs/2409.11321

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Optimizer;
use super::basis::{Basis, bases};
use crate::distill::DistillError;
use crate::distill::checkpoint::{State, Visit};
use crate::distill::gradients::WeightGradients;
use crate::distill::parameters::Parameters;
use crate::statistics::Factors;

/// Share of the mean gradient that is kept from step to step.
const MEAN: f64 = 0.9;
/// Share of the mean square that is kept from step to step.
const SQUARE: f64 = 0.98;
/// Number that is added to roots of mean squares.
const EPSILON: f32 = 1e-8;
/// Number of elements of one task.
const STEP: usize = 1 << 14;

/// Running means by tensor.
#[derive(Debug, Default)]
pub(super) struct Adam {
    steps: i32,
    /// Coordinates in which squares are averaged, where they are not those of the weights.
    bases: BTreeMap<String, Basis>,
    moments: BTreeMap<String, Moments>,
}

#[derive(Debug)]
struct Moments {
    /// Mean gradient, in the coordinates of the weights.
    mean: Vec<f32>,
    /// Mean squared gradient, in those of the basis.
    square: Vec<f32>,
}

impl Optimizer for Adam {
    fn renew(&mut self, parameters: &Parameters, factors: &Factors, _: &[u64]) -> Result<(), DistillError> {
        self.bases = bases(parameters, factors)?;
        Ok(())
    }

    fn forget(&mut self) {
        self.steps = 0;
        self.moments.clear();
    }

    fn save(&self, parameters: &Parameters, visit: &mut Visit) -> i32 {
        for (number, name) in parameters.names().enumerate() {
            if let Some(moments) = self.moments.get(name) {
                visit("mean", number, &moments.mean);
                visit("square", number, &moments.square);
            }
            if let Some(basis) = self.bases.get(name) {
                basis.save(number, visit);
            }
        }
        self.steps
    }

    fn load(&mut self, parameters: &Parameters, steps: i32, state: &State) -> Result<(), DistillError> {
        self.steps = steps;
        for (number, name) in parameters.names().enumerate() {
            if let (Some(mean), Some(square)) = (state.array("mean", number)?, state.array("square", number)?)
            {
                self.moments.insert(name.to_owned(), Moments { mean, square });
            }
            if let Some(basis) = Basis::load(number, state)? {
                self.bases.insert(name.to_owned(), basis);
            }
        }
        Ok(())
    }

    fn step(&mut self, parameters: &Parameters, gradients: &WeightGradients, tokens: usize, rate: f64) {
        self.steps += 1;
        // Running means begin at zero; these factors take that out.
        let of_mean = (1.0 / (1.0 - MEAN.powi(self.steps))) as f32;
        let of_square = (1.0 / (1.0 - SQUARE.powi(self.steps))) as f32;
        for name in parameters.names() {
            let gradient = gradients.mean(name, tokens);
            let zeros = || Moments { mean: vec![0.0; gradient.len()], square: vec![0.0; gradient.len()] };
            let moments = self.moments.entry(name.to_owned()).or_insert_with(zeros);
            moved(&mut moments.mean, &gradient, (1.0 - MEAN) as f32, |g| g);
            let basis = self.bases.get(name);
            let direction = match basis {
                None => {
                    moved(&mut moments.square, &gradient, (1.0 - SQUARE) as f32, |g| g * g);
                    quotients(&moments.mean, &moments.square, of_mean, of_square)
                }
                Some(basis) => {
                    let turned = basis.turned(&gradient);
                    moved(&mut moments.square, &turned, (1.0 - SQUARE) as f32, |g| g * g);
                    let mean = basis.turned(&moments.mean);
                    basis.turned_back(&quotients(&mean, &moments.square, of_mean, of_square))
                }
            };
            parameters.change(name, |parameter| {
                let values = parameter.values.par_chunks_mut(STEP).zip(direction.par_chunks(STEP));
                values.for_each(|(values, direction)| {
                    values.iter_mut().zip(direction).for_each(|(value, d)| *value -= rate as f32 * d);
                });
            });
        }
    }
}

/// Moves the running `mean` of what `of` makes of the gradient's elements by the share `by`.
fn moved(mean: &mut [f32], gradient: &[f32], by: f32, of: impl Fn(f32) -> f32 + Sync) {
    mean.par_chunks_mut(STEP).zip(gradient.par_chunks(STEP)).for_each(|(mean, gradient)| {
        mean.iter_mut().zip(gradient).for_each(|(mean, &g)| *mean += by * (of(g) - *mean));
    });
}

/// Returns `mean / sqrt(square)`, element by element, each multiplied by its factor before.
fn quotients(mean: &[f32], square: &[f32], of_mean: f32, of_square: f32) -> Vec<f32> {
    let mut out = vec![0.0; mean.len()];
    out.par_chunks_mut(STEP).zip(mean.par_chunks(STEP).zip(square.par_chunks(STEP))).for_each(
        |(out, (mean, square))| {
            for ((out, mean), square) in out.iter_mut().zip(mean).zip(square) {
                *out = mean * of_mean / ((square * of_square).sqrt() + EPSILON);
            }
        },
    );
    out
}
