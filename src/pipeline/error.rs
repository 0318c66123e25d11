//! What can go wrong while a plan is carried out.

use kquant_formats::FormatError;

use crate::checkpoint::ReadError;
use crate::encode::OutOfRange;

/// Why the output could not be written. No file is left behind.
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
        /// GGUF name.
        tensor: String,
        /// Name in the checkpoint.
        source_name: String,
        /// Row of the output tensor.
        row: u64,
        /// Column.
        column: u64,
        /// The weight.
        value: f32,
    },
    /// A weight is past what its type can hold.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// One row needs more than the whole budget.
    #[error("tensor `{tensor}`: one row needs {bytes} bytes of buffers; give --memory at least that much")]
    RowTooLarge {
        /// GGUF name.
        tensor: String,
        /// Bytes for one row.
        bytes: u64,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {what}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system says.
        what: String,
    },
    /// A defect of kquant itself.
    #[error("tensor `{tensor}`, rows {rows:?}: internal error while encoding; please report it")]
    Internal {
        /// GGUF name.
        tensor: String,
        /// The unit's rows.
        rows: std::ops::Range<u64>,
    },
    /// Stopped from outside.
    #[error("interrupted; nothing was written")]
    Interrupted,
}
