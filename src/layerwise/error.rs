//! What can go wrong.

use kquant_formats::FormatError;

use crate::encode::OutOfRange;
use crate::encode::feedback::FeedbackError;
use crate::model::ModelError;

/// Why calibrated encoding stopped.
#[derive(Debug, thiserror::Error)]
pub enum CalibratedError {
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The statistics of an input cannot be used.
    #[error("tensor `{tensor}`")]
    Factor {
        /// The first weight that reads the input.
        tensor: String,
        /// What is wrong.
        source: FeedbackError,
    },
    /// A weight is past what its type can hold.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// The temporary file.
    #[error(transparent)]
    File(#[from] FormatError),
    /// Statistics of another model.
    #[error(
        "tensor `{tensor}` has {expected} columns, its statistics {found}: they were made of another model. Make them anew \
         with `kquant calibrate --hessian`"
    )]
    Columns {
        /// GGUF name.
        tensor: String,
        /// Columns of the statistics.
        found: u64,
        /// Columns of the tensor.
        expected: u64,
    },
    /// Statistics of another model.
    #[error(
        "tensor `{tensor}` has {expected} matrices, its statistics {found}: they were made of another model. Make them anew \
         with `kquant calibrate --hessian`"
    )]
    Matrices {
        /// GGUF name.
        tensor: String,
        /// Matrices of the statistics.
        found: u64,
        /// Matrices of the tensor.
        expected: u64,
    },
    /// Buffers that the budget cannot hold.
    #[error(
        "{what} needs {needed} bytes of memory to be encoded with feedback; give --memory at least that much, or choose \
         --encoder search"
    )]
    Memory {
        /// What is too large.
        what: String,
        /// Bytes.
        needed: u64,
    },
}
