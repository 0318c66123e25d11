//! What the backward pass is asked for, and what it gives.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::context::Progress;

/// How a model is run forward and back over a text. Only what is marked so changes a bit of the result.
pub struct Backward<'a> {
    /// Tokens per chunk; chunks do not see each other.
    pub context: usize,
    /// Bytes for a layer, states and buffers. What does not fit goes to a temporary file.
    pub memory: u64,
    /// Tokens that the loss is computed against. Changes the result.
    pub labels: Labels<'a>,
    /// Whether inputs of layers are kept in f32 and not rounded to bf16, which takes twice the room. Changes the result.
    pub exact: bool,
    /// Whether the observer of the forward pass sees the input of the output projection, too.
    pub with_output: bool,
    /// Set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// Is told of the work done, in the unit of [`Model::backward_work`](crate::model::Model::backward_work).
    pub progress: &'a dyn Progress,
}

/// The token that is to follow each position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels<'a> {
    /// Drawn from what the model predicts: outer products of gradients are the Fisher matrix then.
    Drawn {
        /// Another one gives other labels.
        seed: u64,
        /// Place of the first token in the text: parts of a text get the labels of the whole.
        first_token: u64,
    },
    /// One for each token.
    Given(&'a [u32]),
}

/// What a pass found, and the time it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Negative log-probability of the labels, summed over all positions, in nats.
    pub sum: f64,
    /// Positions.
    pub tokens: usize,
    /// Time of the forward pass, its observer included.
    pub forward: Duration,
    /// Time of the output projection, forward and back.
    pub head: Duration,
    /// Time of the layers backwards, the observer included.
    pub backward: Duration,
}
