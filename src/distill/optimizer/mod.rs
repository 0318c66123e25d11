//! From gradients to steps.
//!
//! | file | what |
//! |---|---|
//! | `adam` | Adam, in the coordinates of the weights or in those of Kronecker factors |
//! | `basis` | a gradient in the coordinates of Kronecker factors |
//! | `natural` | the natural gradient by Kronecker factors |
//! | `precondition` | a gradient times the inverse of a tensor's Fisher matrix |

mod adam;
mod basis;
mod natural;
mod precondition;

use super::DistillError;
use super::checkpoint::{State, Visit};
use super::gradients::WeightGradients;
use super::parameters::{Parameters, Shape};
use crate::model::ParameterKind;
use crate::statistics::Factors;

/// How steps are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Adam in the eigenvectors of the Kronecker factors.
    Soap,
    /// The natural gradient by Kronecker factors of the student's statistics.
    Natural,
    /// Adam.
    AdamW,
}

impl Method {
    /// Returns the size of the largest steps where nothing else is asked for.
    pub fn default_rate(self) -> f64 {
        match self {
            Self::Natural => 0.02,
            Self::AdamW | Self::Soap => 5e-4,
        }
    }

    /// Returns true if steps need the student's statistics.
    pub(super) fn needs_factors(self) -> bool {
        matches!(self, Self::Natural | Self::Soap)
    }

    /// Returns the number of copies of the weights that the state of the optimizer takes.
    pub(super) fn copies(self) -> u64 {
        match self {
            Self::Natural => 1,
            Self::AdamW | Self::Soap => 2,
        }
    }

    /// Returns the number of values of the statistics of tensors of `shapes` and of what is made of them.
    pub(super) fn factors(self, shapes: &[Shape]) -> u64 {
        // The statistics, their sums in f64, and inverses or eigenvectors with their transposes.
        let copies = match self {
            Self::Soap => 4,
            Self::Natural => 3,
            Self::AdamW => return 0,
        };
        let squares = shapes.iter().map(|shape| match shape.kind {
            ParameterKind::Linear => shape.rows * shape.rows + shape.columns * shape.columns,
            ParameterKind::Table => shape.columns * shape.columns,
            ParameterKind::Norm | ParameterKind::Bias | ParameterKind::Recurrent => 0,
        });
        copies * squares.sum::<u64>()
    }

    /// Creates the optimizer in its first state.
    pub(super) fn optimizer(self) -> Box<dyn Optimizer> {
        match self {
            Self::Natural => Box::new(natural::Natural::default()),
            Self::AdamW | Self::Soap => Box::new(adam::Adam::default()),
        }
    }
}

/// A rule that turns gradients into steps, with its state.
pub(super) trait Optimizer {
    /// Takes new statistics of the student, if the rule needs any; `counts` `[vocabulary]` says how often each token is looked up in
    /// the whole text.
    fn renew(
        &mut self,
        parameters: &Parameters,
        factors: &Factors,
        counts: &[u64],
    ) -> Result<(), DistillError>;

    /// Forgets the steps before, but not the statistics.
    fn forget(&mut self);

    /// Shows `visit` all arrays of the state, by the number of the trained tensor, in a fixed order; returns the steps since the last
    /// [`forget`](Self::forget), as far as the rule counts them.
    fn save(&self, parameters: &Parameters, visit: &mut Visit) -> i32;

    /// Takes a state back, in which `steps` is what [`save`](Self::save) returned.
    fn load(&mut self, parameters: &Parameters, steps: i32, state: &State) -> Result<(), DistillError>;

    /// Moves `parameters` against the mean over `tokens` tokens of `gradients`, by steps of size `rate`.
    fn step(&mut self, parameters: &Parameters, gradients: &WeightGradients, tokens: usize, rate: f64);
}
