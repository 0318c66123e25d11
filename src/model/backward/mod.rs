//! The backward pass, layer by layer: gradients of a loss by everything that a layer computes.
//!
//! A forward pass over all chunks keeps what enters each layer. The loss is that of labels drawn from the model's own
//! predictions, summed over all positions, so that outer products of its gradients are the Fisher matrix. Then layers come in
//! reverse: a layer's weights are decoded once, its operations are run again for each tile of chunks with what their
//! gradients need put on a tape, and the tape is walked backwards. The gradient of an operation stands beside its forward
//! step, in model/ops/.
//!
//! ```text
//! tokens -> embed -> [ layer 0 ] -> [ layer 1 ] -> ... -> final norm -> logits -> labels
//!                        | kept         | kept                                      |
//! embedding gradient <- [ layer 0 ] <- [ layer 1 ] <- ... <- final norm <- softmax - one-hot
//! ```
//!
//! Weights have no gradients here. What is chosen (experts, labels) is constant; what is rounded (activations, if the model
//! does so) passes its gradient on as if it was not.

#[cfg(test)]
mod check;
mod gradients;
mod head;
mod labels;
mod options;
mod pass;
mod reverse;
mod tape;
mod work;

pub(super) use gradients::{copied, scale};
pub use options::{Backward, Labels, Loss};
pub(super) use reverse::{ROWS, Reverse, check};
