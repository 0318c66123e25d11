//! Errors while a plan is carried out.

use kquant_formats::FormatError;

use crate::checkpoint::ReadError;
use crate::encode::OutOfRange;

/// The reason why the output could not be written. No file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Reading or writing a file failed.
    #[error(transparent)]
    File(#[from] FormatError),
    /// A row could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A weight is NaN or infinite.
    #[error(
        "tensor `{tensor}` (from `{source_name}`): weight at row {row}, column {column} is {value}. \
         The checkpoint is damaged or was saved from a diverged run; download it again or repair that tensor"
    )]
    NonFinite {
        /// GGUF name of the tensor.
        tensor: String,
        /// Name of the tensor in the checkpoint.
        source_name: String,
        /// Row in the output tensor, from 0.
        row: u64,
        /// Column in the output tensor, from 0.
        column: u64,
        /// Value of the weight.
        value: f32,
    },
    /// A weight exceeds the range of its type.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// One row needs more than the whole budget.
    #[error("tensor `{tensor}`: one row needs {bytes} bytes of buffers; give --memory at least that much")]
    RowTooLarge {
        /// GGUF name of the tensor.
        tensor: String,
        /// Bytes of buffers that one row needs.
        bytes: u64,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {what}")]
    Threads {
        /// Number of threads that were requested.
        threads: usize,
        /// The system's answer.
        what: String,
    },
    /// The error is a defect of kquant itself.
    #[error("tensor `{tensor}`, rows {rows:?}: internal error while encoding; please report it")]
    Internal {
        /// GGUF name of the tensor.
        tensor: String,
        /// Rows that were being encoded.
        rows: std::ops::Range<u64>,
    },
    /// The run was stopped from outside.
    #[error("interrupted; nothing was written")]
    Interrupted,
}
