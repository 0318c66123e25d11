//! The errors that an encoder leaves in some rows.

use kquant_kernels::block::BlockType;
use rayon::prelude::*;

use crate::encode::feedback::{self, Feedback};
use crate::encode::{Encoder, OutOfRange, Rows, encode_in_range};

/// Rows of one matrix whose rounding is priced.
pub(super) struct SampledRows<'a> {
    /// GGUF name of the tensor.
    pub tensor: &'a str,
    /// Number of the matrix's first row in the tensor.
    pub first_row: u64,
    /// Which rows, rising.
    pub rows: &'a [usize],
    /// The weights, `[rows][columns]`.
    pub weights: &'a [f32],
    /// Length of a row.
    pub columns: usize,
}

/// How rows are rounded.
#[derive(Clone, Copy)]
pub(super) struct Rounding<'a> {
    /// What encodes rows that get no feedback.
    pub encoder: &'static dyn Encoder,
    /// How rows are rounded with feedback.
    pub options: &'a feedback::Options,
    /// The importance of the columns, as the encoder was given it.
    pub importance: Option<&'a [f32]>,
}

impl SampledRows<'_> {
    /// The errors `[rows][columns]` of the rows as `block` with feedback, as far as the type has use for it; without `inputs`, of the plain encoder.
    ///
    /// # Errors
    /// When the type cannot hold a weight, or the columns cannot be put in its order.
    pub(super) fn errors(
        &self,
        block: &'static BlockType,
        inputs: Option<&mut Feedback>,
        rounding: &Rounding,
    ) -> Result<Vec<f32>, RoundedError> {
        let row_bytes = self.columns / block.elements * block.bytes;
        let mut bytes = vec![0; self.rows.len() * row_bytes];
        match (inputs, feedback::codec_for(block)) {
            (Some(inputs), Some(codec)) => {
                inputs.arrange(feedback::unit_of(block)).map_err(RoundedError::Factor)?;
                feedback::encode(inputs, None, codec, self.weights, rounding.options, &mut bytes);
            }
            _ => self.encode_plainly(block, rounding, &mut bytes)?,
        }
        let mut errors = vec![0.0; self.weights.len()];
        let rows = errors.par_chunks_exact_mut(self.columns).zip(bytes.par_chunks_exact(row_bytes));
        rows.zip(self.weights.par_chunks_exact(self.columns)).for_each(|((errors, bytes), weights)| {
            (block.decode)(bytes, errors);
            errors.iter_mut().zip(weights).for_each(|(error, weight)| *error -= weight);
        });
        Ok(errors)
    }

    fn encode_plainly(
        &self,
        block: &'static BlockType,
        rounding: &Rounding,
        bytes: &mut [u8],
    ) -> Result<(), RoundedError> {
        let row_bytes = self.columns / block.elements * block.bytes;
        let rows = self.weights.par_chunks_exact(self.columns).zip(bytes.par_chunks_exact_mut(row_bytes));
        rows.enumerate()
            .map(|(i, (weights, out))| {
                let row = Rows { weights, columns: self.columns };
                encode_in_range(rounding.encoder, block, row, rounding.importance, out).map_err(|at| {
                    let number = self.first_row + self.rows[i] as u64;
                    RoundedError::Range(OutOfRange::new((self.tensor, block), row, at, number))
                })
            })
            .collect::<Result<Vec<()>, _>>()
            .map(drop)
    }
}

/// Why rows have no errors.
#[derive(Debug)]
pub(super) enum RoundedError {
    Range(OutOfRange),
    Factor(feedback::FeedbackError),
}
