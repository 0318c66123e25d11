//! Why a distillation failed.

use std::path::PathBuf;

use kquant_formats::FormatError;

use crate::evaluate::EvaluateError;
use crate::model::ModelError;

/// The reason why a student cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum DistillError {
    /// A model cannot be run, or the run was cancelled.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The held-out text cannot be scored.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Weights cannot be read or kept.
    #[error(transparent)]
    File(#[from] FormatError),
    /// There is too little text.
    #[error(
        "the text has {chunks} chunks to train on, and a step takes {batch}: give more text, or a --batch from 1 to that"
    )]
    Text {
        /// Chunks that are not held out.
        chunks: usize,
        /// Chunks of a step.
        batch: usize,
    },
    /// Memory does not suffice.
    #[error(
        "weights, gradients and the state of the optimizer take too much: give --memory {needed}, or less text (--chunks) or fewer of the teacher's tokens (--top)"
    )]
    Memory {
        /// Bytes that would do.
        needed: u64,
    },
    /// Statistics of a tensor cannot be inverted.
    #[error(
        "tensor `{tensor}`: its statistics are always zero or not finite over the text; give another text, or --optimizer adamw"
    )]
    Statistics {
        /// GGUF name of the tensor.
        tensor: String,
    },
    /// A state that a run should go on from is of another run.
    #[error("{}: {what}; give the arguments that it was made with, or leave out --resume", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The run was stopped, and its state is kept.
    #[error("stopped after {step} steps, which are kept in {}: go on with --resume", path.display())]
    Stopped {
        /// Steps that were made.
        step: usize,
        /// The file.
        path: PathBuf,
    },
    /// The loss is not finite.
    #[error("step {step}: the loss is {loss}; give a smaller --rate")]
    Diverged {
        /// Number of the step, from 1.
        step: usize,
        /// The loss.
        loss: f64,
    },
}
