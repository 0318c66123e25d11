//! The natural gradient: `W -= rate * F^-1 G H^-1` for the gradient G of a linear map's weight, with the factors F of the gradients of its
//! outputs and H of its inputs.
//!
//! At a student that is near its teacher, the Fisher matrix is the curvature of the divergence, so that the step has the right length in
//! every direction by itself. Embedding and output projection have one number for each row in the place of the factor that would be too
//! large; norms and biases have one for each element.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Optimizer;
use super::precondition::{Precondition, inverted, reciprocals};
use crate::distill::DistillError;
use crate::distill::checkpoint::{State, Visit};
use crate::distill::gradients::WeightGradients;
use crate::distill::parameters::{Parameter, Parameters};
use crate::encode::feedback::Hessian;
use crate::model::{EMBEDDING, OUTPUT, ParameterKind};
use crate::statistics::Factors;

/// Damping of factors, as a share of their mean diagonal.
const DAMPING: f64 = 0.1;
/// Damping of the numbers of rows of tables, as a share of their mean. Rare tokens have little gradient that is not noise.
const ROW_DAMPING: f64 = 10.0;
/// Share of a step that goes on in the next.
const MOMENTUM: f64 = 0.8;
/// The longest step, as the root of the divergence to second order that it makes, times the root of 2.
const RADIUS: f64 = 0.3;

/// Inverses by tensor, and the running steps.
#[derive(Debug, Default)]
pub(super) struct Natural {
    inverses: BTreeMap<String, Precondition>,
    velocity: BTreeMap<String, Vec<f32>>,
}

impl Optimizer for Natural {
    fn renew(
        &mut self,
        parameters: &Parameters,
        factors: &Factors,
        counts: &[u64],
    ) -> Result<(), DistillError> {
        let tied = parameters.with(OUTPUT, |_| ()).is_none();
        for name in parameters.names() {
            let found =
                parameters.with(name, |parameter| of(name, parameter, factors, counts, tied)).flatten();
            let inverse = found.ok_or_else(|| DistillError::Statistics { tensor: name.to_owned() })?;
            self.inverses.insert(name.to_owned(), inverse);
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.velocity.clear();
    }

    fn save(&self, parameters: &Parameters, visit: &mut Visit) -> i32 {
        for (number, name) in parameters.names().enumerate() {
            if let Some(velocity) = self.velocity.get(name) {
                visit("velocity", number, velocity);
            }
            if let Some(inverse) = self.inverses.get(name) {
                inverse.save(number, visit);
            }
        }
        0
    }

    fn load(&mut self, parameters: &Parameters, _: i32, state: &State) -> Result<(), DistillError> {
        for (number, name) in parameters.names().enumerate() {
            if let Some(velocity) = state.array("velocity", number)? {
                self.velocity.insert(name.to_owned(), velocity);
            }
            if let Some(inverse) = Precondition::load(number, state)? {
                self.inverses.insert(name.to_owned(), inverse);
            }
        }
        Ok(())
    }

    fn step(&mut self, parameters: &Parameters, gradients: &WeightGradients, tokens: usize, rate: f64) {
        let mut directions = Vec::new();
        let mut square = 0.0;
        for (name, inverse) in &self.inverses {
            let gradient = gradients.mean(name, tokens);
            let shape = parameters.with(name, |p| (p.rows, p.columns)).unwrap_or_default();
            let direction = inverse.apply(&gradient, shape);
            square += dot(&direction, &gradient);
            directions.push((name, direction));
        }
        let share = (RADIUS / square.max(0.0).sqrt()).min(1.0) as f32;
        for (name, direction) in directions {
            let velocity = self.velocity.entry(name.clone()).or_insert_with(|| vec![0.0; direction.len()]);
            parameters.change(name, |parameter| {
                let moved = parameter.values.par_iter_mut().zip(velocity).zip(&direction);
                moved.for_each(|((value, velocity), direction)| {
                    *velocity = MOMENTUM as f32 * *velocity + share * direction;
                    *value -= rate as f32 * *velocity;
                });
            });
        }
    }
}

/// Returns the inverse of the Fisher matrix of `name`; `None` if its statistics do not suffice.
fn of(
    name: &str,
    parameter: &Parameter,
    factors: &Factors,
    counts: &[u64],
    tied: bool,
) -> Option<Precondition> {
    match parameter.kind {
        ParameterKind::Norm | ParameterKind::Bias | ParameterKind::Recurrent => {
            let squares = factors.squares(name)?.iter().map(|&square| f64::from(square));
            Some(Precondition::Elements(reciprocals(squares, DAMPING)?))
        }
        ParameterKind::Linear => Some(Precondition::Factors {
            outputs: inverted(factors.output(name)?, DAMPING)?,
            inputs: inverted(factors.input(name)?, DAMPING)?,
        }),
        ParameterKind::Table if name == OUTPUT => {
            let rows = factors.logits().iter().map(|&v| f64::from(v));
            of_rows(rows, factors.input(OUTPUT)?)
        }
        ParameterKind::Table if name == EMBEDDING && !tied => {
            of_rows(shares(counts), factors.output(EMBEDDING)?)
        }
        ParameterKind::Table if name == EMBEDDING => {
            let logits = factors.logits().iter().map(|&v| f64::from(v));
            let rows: Vec<f64> = shares(counts).zip(logits).map(|(count, logit)| count + logit).collect();
            let joined = joined(factors, rows.iter().sum::<f64>() - 1.0)?;
            of_rows(rows.into_iter(), &joined)
        }
        // Every position is looked up as often as the others.
        ParameterKind::Table => {
            let rows = parameter.values.len() / parameter.columns.max(1);
            of_rows(vec![1.0 / rows.max(1) as f64; rows].into_iter(), factors.output(EMBEDDING)?)
        }
    }
}

/// Returns the share of each token in all that are looked up.
fn shares(counts: &[u64]) -> impl ExactSizeIterator<Item = f64> + Clone {
    let all = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(move |&count| count as f64 / all)
}

fn of_rows(rows: impl ExactSizeIterator<Item = f64> + Clone, columns: &Hessian) -> Option<Precondition> {
    Some(Precondition::Rows { rows: reciprocals(rows, ROW_DAMPING)?, columns: inverted(columns, DAMPING)? })
}

/// Returns the columns' factor of a table that is looked up and projects as well: the mean of both, where the logits' variances sum up to
/// `variances` for each token that is looked up.
fn joined(factors: &Factors, variances: f64) -> Option<Hessian> {
    let (looked_up, projected) = (factors.output(EMBEDDING)?, factors.input(OUTPUT)?);
    let share = (variances / (1.0 + variances)) as f32;
    let mean = looked_up.mean.iter().zip(&projected.mean).map(|(g, h)| (1.0 - share) * g + share * h);
    Some(Hessian { columns: looked_up.columns, mean: mean.collect(), tokens: looked_up.tokens })
}

/// Returns the sum of the products of `a` and `b`, in f64 and in a fixed order.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
