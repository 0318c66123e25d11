//! The cost of errors in outputs: the Fisher matrices that feedback over rows needs.

use kquant_formats::FormatError;

use super::CalibratedError;
use crate::encode::feedback::{Feedback, FeedbackError, Hessian, factored_fisher};
use crate::model::OUTPUT;
use crate::statistics::{Fishers, Half, HessianFile};

/// The source of Fisher matrices.
#[derive(Clone, Copy)]
pub enum OutputFishers<'a> {
    /// There are no Fisher matrices: rows are rounded independently.
    Unknown,
    /// The Fisher matrices come from a backward pass of this run.
    Collected(&'a Fishers),
    /// The Fisher matrices come from a statistics file.
    File(&'a HessianFile),
}

impl OutputFishers<'_> {
    /// Returns the number of f32 values that feedback over `rows` rows of `columns` columns holds: the Fisher matrix, its
    /// factor and the buffer that it is made in, the errors and their corrections; 0 without feedback over rows.
    pub(super) fn floats(both_sides: bool, rows: u64, columns: u64) -> u64 {
        if both_sides { (3 * rows + 2 * columns) * rows } else { 0 }
    }

    /// Returns true if there are Fisher matrices.
    pub(super) fn are_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// Returns the Fisher matrix of the outputs of `tensor`, `[rows][rows]`.
    pub(super) fn fisher(&self, tensor: &str) -> Result<Option<Hessian>, FormatError> {
        match self {
            Self::Unknown => Ok(None),
            Self::Collected(fishers) => fishers.get(tensor),
            Self::File(file) => file.fisher(tensor),
        }
    }

    /// Returns the Hessian of the output projection's inputs, and the sum of `p (1 - p)` over the vocabulary: together
    /// they give the cost of errors in its rows.
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

    /// Returns the Fisher matrix of the outputs of `tensor` with its factors. Returns `None` also where it is of no use:
    /// if all gradients are zero, or the number of rows is no multiple of 8.
    pub(super) fn feedback(&self, tensor: &str) -> Result<Option<Feedback>, CalibratedError> {
        let Some(fisher) = self.fisher(tensor)? else { return Ok(None) };
        match factored_fisher(fisher) {
            Ok(feedback) => Ok(Some(feedback)),
            Err(FeedbackError::Inactive | FeedbackError::Shape { .. }) => Ok(None),
            Err(source) => Err(CalibratedError::Factor { tensor: tensor.to_owned(), source }),
        }
    }
}
