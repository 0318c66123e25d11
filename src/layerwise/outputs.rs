//! What errors of outputs cost the model: the Fisher matrices that feedback over rows needs.

use kquant_formats::FormatError;

use super::CalibratedError;
use crate::encode::feedback::{Damping, Feedback, FeedbackError, Hessian};
use crate::model::OUTPUT;
use crate::statistics::{Fishers, Half, HessianFile};

/// Damping of a Fisher matrix, at least: it is of the original model, and the model that is written will differ.
const LEAST_DAMPING: f64 = 0.03;

/// Where Fisher matrices come from.
#[derive(Clone, Copy)]
pub enum Outputs<'a> {
    /// Nowhere: rows do not see each other.
    Unknown,
    /// From a backward pass just now.
    Collected(&'a Fishers),
    /// From a statistics file.
    File(&'a HessianFile),
}

impl Outputs<'_> {
    /// Numbers that feedback over `rows` rows of `columns` columns holds: the Fisher matrix, its factor and what that is made in,
    /// errors and what is added to them. None without.
    pub(super) fn floats(both_sides: bool, rows: u64, columns: u64) -> u64 {
        if both_sides { (3 * rows + 2 * columns) * rows } else { 0 }
    }

    /// Whether there are any.
    pub(super) fn are_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// That of what leaves `tensor`.
    pub(super) fn fisher(&self, tensor: &str) -> Result<Option<Hessian>, FormatError> {
        match self {
            Self::Unknown => Ok(None),
            Self::Collected(fishers) => fishers.get(tensor),
            Self::File(file) => file.fisher(tensor),
        }
    }

    /// What the output projection reads, and the sum of `p (1 - p)` over the vocabulary: what an error of its rows costs.
    pub(super) fn output_role(&self) -> Result<Option<(Hessian, f32)>, FormatError> {
        let (input, curvatures) = match self {
            Self::Unknown => (None, None),
            Self::Collected(fishers) => (fishers.output_input().cloned(), fishers.output()?),
            Self::File(file) => {
                let group = file.group_of(OUTPUT);
                let input = group.map(|group| group.read(0, Half::Train)).transpose()?.flatten();
                (input, file.output_fisher()?)
            }
        };
        Ok(input.zip(curvatures.map(|all| all.iter().sum())))
    }

    /// That of what leaves `tensor`, with its factors. `None` also where it has no use: of gradients that are all zero, or of a number of rows that is
    /// no multiple of 8.
    pub(super) fn feedback(&self, tensor: &str) -> Result<Option<Feedback>, CalibratedError> {
        let Some(fisher) = self.fisher(tensor)? else { return Ok(None) };
        let damping = Damping::for_tokens(fisher.columns, fisher.tokens);
        let damping = Damping { mean: damping.mean.max(LEAST_DAMPING), ..damping };
        match Feedback::new(fisher, damping) {
            Ok(feedback) => Ok(Some(feedback)),
            Err(FeedbackError::Inactive | FeedbackError::Shape { .. }) => Ok(None),
            Err(source) => Err(CalibratedError::Factor { tensor: tensor.to_owned(), source }),
        }
    }
}
