//! The error of calibrated encoding.

use kquant_formats::FormatError;

use crate::encode::OutOfRange;
use crate::encode::feedback::FeedbackError;
use crate::model::ModelError;

/// The reason why calibrated encoding stopped.
#[derive(Debug, thiserror::Error)]
pub enum CalibratedError {
    /// The forward pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The statistics of an input cannot be used.
    #[error("tensor `{tensor}`")]
    Factor {
        /// GGUF name of the first weight that reads the input.
        tensor: String,
        /// The reason why the statistics cannot be used.
        source: FeedbackError,
    },
    /// A weight is past what its type can hold.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// The temporary file cannot be created, written or read.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The statistics are for another number of columns, so they are of another model.
    #[error(
        "tensor `{tensor}` has {expected} columns, its statistics {found}: they were made of another model. Make them anew \
         with `kquant calibrate --hessian`"
    )]
    Columns {
        /// GGUF name of the tensor.
        tensor: String,
        /// Number of columns of the statistics.
        found: u64,
        /// Number of columns of the tensor.
        expected: u64,
    },
    /// The statistics are for another number of matrices, so they are of another model.
    #[error(
        "tensor `{tensor}` has {expected} matrices, its statistics {found}: they were made of another model. Make them anew \
         with `kquant calibrate --hessian`"
    )]
    Matrices {
        /// GGUF name of the tensor.
        tensor: String,
        /// Number of matrices of the statistics.
        found: u64,
        /// Number of matrices of the tensor.
        expected: u64,
    },
    /// The memory budget cannot hold the buffers.
    #[error(
        "{what} needs {needed} bytes of memory to be encoded with feedback; give --memory at least that much, or choose \
         --encoder search"
    )]
    Memory {
        /// What is too large, as the subject of the message.
        what: String,
        /// Memory that it takes, in bytes.
        needed: u64,
    },
}
