//! The inputs and results of the backward pass.

use std::fmt::{self, Debug, Formatter};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::target::RowTarget;
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
#[derive(Clone, Copy)]
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
    /// A teacher gives a distribution for each token, and the loss is the divergence from it.
    Taught(&'a dyn Teacher),
}

impl Debug for Labels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn { seed, first_token } => {
                write!(f, "Drawn {{ seed: {seed}, first_token: {first_token} }}")
            }
            Self::Given(labels) => write!(f, "Given({} labels)", labels.len()),
            Self::Taught(_) => write!(f, "Taught"),
        }
    }
}

/// A source of the distributions that a loss compares a model's predictions with.
pub trait Teacher: Sync {
    /// Returns the distribution that follows token number `token` of the text at hand.
    fn target(&self, token: usize) -> TeacherTarget<'_>;
}

/// A distribution over a vocabulary, of which only some tokens are known one by one.
///
/// Its divergence from predictions `q` is `sum over ids of p ln(p / q) + rest ln(rest / q_rest)`, where `q_rest` is what
/// `q` gives to all other tokens together. At a temperature T, both are raised to the power `1 / T` first, the rest as one
/// token, and scaled to a sum of 1; the divergence counts T * T times, so that its gradient keeps its size (Hinton, Vinyals and Dean,
/// Distilling the Knowledge in a Neural Network, 2015, [arXiv:1503.02531]).
///
/// [arXiv:1503.02531]: https://arxiv.org/abs/1503.02531
#[derive(Debug, Clone, Copy)]
pub struct TeacherTarget<'a> {
    /// Tokens in rising order.
    pub ids: &'a [u32],
    /// Probability of each of `ids`.
    pub p: &'a [f32],
    /// Probability of all other tokens together; 0 if there are none.
    pub rest: f32,
    /// Temperature of the divergence, above 0; 1 leaves the distributions as they are.
    pub temperature: f32,
}

impl TeacherTarget<'_> {
    /// Returns the divergence from this distribution of the predictions `q` `[vocab]`, in nats.
    pub fn divergence(&self, q: &[f32]) -> f64 {
        RowTarget::of_teacher(self, q).1
    }
}

/// The loss of a pass, and the times it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Negative log-probability of the labels, or the divergence from the teacher, summed over all positions, in nats.
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
