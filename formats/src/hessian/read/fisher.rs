//! Reading of Fisher matrices.

use super::sums::{self, Impossible};
use super::{AGAIN, Finder, HessianFile};
use crate::cursor::Number;
use crate::error::{DAMAGED, FormatError, Result};
use crate::gguf::tensors::TensorInfo;
use crate::hessian::fisher::{self, Fishers};
use crate::hessian::packed_row;

/// The place of one Fisher matrix in the file.
#[derive(Debug)]
pub(super) struct FisherPlace {
    sums: TensorInfo,
    /// Number of gradients in the sum.
    tokens: u64,
}

impl HessianFile {
    /// Returns the number of gradients in Fisher matrix number `number`; 0 if there is no such matrix.
    pub fn fisher_tokens(&self, number: usize) -> u64 {
        self.fishers.get(number).map_or(0, |place| place.tokens)
    }

    /// Adds Fisher matrix number `number` to `sums`, a packed upper triangle or a diagonal.
    ///
    /// # Errors
    /// Fails when there is no such matrix, `sums` has another size, a value is not finite, or a value on the diagonal is
    /// negative.
    pub fn add_fisher(&self, number: usize, sums: &mut [f64]) -> Result<()> {
        let described = self.description.fishers.as_ref().and_then(|all| all.tensors.get(number));
        let invalid = |what: String| FormatError::Invalid { what, hint: AGAIN };
        let (found, place) = described
            .zip(self.fishers.get(number))
            .ok_or_else(|| invalid(format!("there is no Fisher matrix number {number}")))?;
        if sums.len() != found.values() {
            let what = format!("has {} values, not {}", found.values(), sums.len());
            return Err(invalid(format!("the Fisher matrix of {:?} {what}", found.tensor)));
        }
        let squares = (0..found.outputs)
            .map(|i| if found.is_diagonal() { i } else { packed_row(found.outputs, i).start });
        match sums::add(place.sums.extent(&self.file)?, sums, squares)? {
            None => Ok(()),
            Some(Impossible { at, value, .. }) => {
                let what = format!(
                    "Fisher matrix of {:?}: value {at} is {value}, which gradients cannot give",
                    found.tensor
                );
                let offset = place.sums.offset + at as u64 * f64::BYTES;
                Err(FormatError::malformed(self.path(), offset, what, AGAIN))
            }
        }
    }
}

impl Finder<'_> {
    /// Finds the sums of all Fisher matrices that `described` lists.
    pub(super) fn fishers(&self, described: Option<&Fishers>) -> Result<Vec<FisherPlace>> {
        let mut places = Vec::new();
        for fisher in described.map_or(&[][..], |all| &all.tensors) {
            let fault = |what: String| FormatError::malformed(self.file.path(), None, what, DAMAGED);
            let values = fisher.checked_values().ok_or_else(|| fault(format!("{fisher:?} is too large")))?;
            let tokens = self.find(&fisher.tensor, fisher::TOKENS, 1)?;
            let tokens = f64::first(&tokens.extent(self.file)?.read()?).unwrap_or(f64::NAN);
            if !((0.0..=2f64.powi(53)).contains(&tokens) && tokens.fract() == 0.0) {
                return Err(fault(format!("{tokens} gradients of tensor {:?}", fisher.tensor)));
            }
            let sums = self.find(&fisher.tensor, fisher.suffix(), values)?;
            places.push(FisherPlace { sums, tokens: tokens as u64 });
        }
        Ok(places)
    }
}
