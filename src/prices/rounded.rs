//! The errors that an encoder leaves in some rows.

use std::sync::atomic::AtomicBool;

use kquant_kernels::block::BlockType;
use rayon::prelude::*;

use crate::encode::feedback::{Feedback, FeedbackError};
use crate::encode::{Encoder, LayerMethod, LayerTensor, OutOfRange, Rows, encode_in_range};

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
    /// What encodes the rows by their statistics, if anything does.
    pub layers: Option<&'a dyn LayerMethod>,
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
        let unit = rounding.layers.and_then(|layers| Some((layers, layers.unit(block)?)));
        match (inputs, unit) {
            (Some(inputs), Some((layers, unit))) => {
                inputs.arrange(unit).map_err(RoundedError::Factor)?;
                // Rows of a sample say nothing of each other, and nobody stops so little work.
                let cancel = &AtomicBool::new(false);
                let targets = self.weights;
                let rows = LayerTensor { block, inputs, outputs: None, held_out: None, targets, cancel };
                layers.encode(&rows, &mut bytes);
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
    Factor(FeedbackError),
}
