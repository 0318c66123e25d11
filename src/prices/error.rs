//! Why tensors cannot be priced.

use kquant_formats::FormatError;

use crate::encode::OutOfRange;
use crate::encode::feedback::FeedbackError;
use crate::model::ModelError;
use crate::plan::PlanError;

/// Why tensors cannot be priced.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// The model cannot be read, or the run was cancelled.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tensors of the output cannot be listed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The statistics cannot be read.
    #[error(transparent)]
    File(#[from] FormatError),
    /// A weight is past what a type can hold.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// The Hessian of an input has no factors.
    #[error("tensor `{tensor}`")]
    Factor {
        /// The first tensor that reads the input.
        tensor: String,
        /// What is wrong.
        source: FeedbackError,
    },
    /// The statistics are of another model.
    #[error(
        "tensor `{tensor}`: its statistics are of {found} {what}, the tensor has {expected}: they were made of another model. Make them anew with \
         `kquant calibrate --fisher --output-tensor`"
    )]
    OtherModel {
        /// GGUF name.
        tensor: String,
        /// What differs.
        what: &'static str,
        /// Number in the statistics.
        found: u64,
        /// Number in the model.
        expected: u64,
    },
    /// Buffers that the budget cannot hold.
    #[error("`{tensor}` needs {needed} bytes of memory to be priced; give --memory at least that much")]
    Memory {
        /// The first tensor of the largest input.
        tensor: String,
        /// Bytes.
        needed: u64,
    },
}
