//! The inputs and results of the backward pass.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::context::Progress;

/// The parameters of a backward pass. Only those that are marked so affect the result.
pub struct Backward<'a> {
    /// Tokens per chunk; chunks do not see each other.
    pub context: usize,
    /// Bytes for a layer, states and buffers. States that do not fit go to a temporary file.
    pub memory: u64,
    /// Tokens that the loss is computed against. Affects the result.
    pub labels: Labels<'a>,
    /// True if inputs of layers are kept in f32, which takes twice the memory of bf16. Affects the result.
    pub exact: bool,
    /// True if the observer of the forward pass also sees the input of the output projection.
    pub with_output: bool,
    /// Flag that is set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// Receiver of the progress, in the unit of [`Model::backward_work`](crate::model::Model::backward_work).
    pub progress: &'a dyn Progress,
}

/// The token that the loss expects after each position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels<'a> {
    /// Labels are drawn from the model's predictions, so that outer products of gradients give the Fisher matrix.
    Drawn {
        /// Seed of the random numbers.
        seed: u64,
        /// Position of the first token in the whole text, so that parts of a text get the same labels as the whole.
        first_token: u64,
    },
    /// Labels are given, one for each token.
    Given(&'a [u32]),
}

/// The loss of a pass, and the times it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Negative log-probability of the labels, summed over all positions, in nats.
    pub sum: f64,
    /// Number of positions.
    pub tokens: usize,
    /// Time of the forward pass, its observer included.
    pub forward: Duration,
    /// Time of the output projection in both directions.
    pub head: Duration,
    /// Time of the layers' backward pass, its observer included.
    pub backward: Duration,
}
