//! The backward pass, layer by layer: gradients of a loss with respect to everything that a layer computes.
//!
//! A forward pass over all chunks keeps the input of each layer. The loss, summed over all positions, is the cross-entropy
//! for labels drawn from the model's own predictions, so that outer products of its gradients give the Fisher matrix, or the
//! divergence from a teacher's distributions. Then
//! the layers are visited in reverse order. A layer's weights are decoded once; for each tile of chunks, its operations are
//! run again and record on a tape what their gradients need, and the tape is walked backwards. The gradient of an operation
//! is in the file of its forward step, in model/ops/.
//!
//! ```text
//! tokens -> embed -> [ layer 0 ] -> [ layer 1 ] -> ... -> final norm -> logits -> labels
//!                        | kept         | kept                                      |
//! embedding gradient <- [ layer 0 ] <- [ layer 1 ] <- ... <- final norm <- softmax - one-hot
//! ```
//!
//! Gradients of weights are products of what an operation reads and the gradient of what it writes; a [`WeightObserver`](super::WeightObserver) is
//! shown both and forms them. Choices (experts, labels) are constant, and rounding (of activations, if the model does
//! it) passes gradients on unchanged.

#[cfg(test)]
mod check;
mod gradients;
mod head;
mod options;
mod pass;
mod reverse;
mod tape;
mod target;
mod work;

pub(super) use gradients::{copied, scale};
pub use options::{Backward, Labels, Loss, Teacher, TeacherTarget};
pub(super) use reverse::{ROWS, Reverse, check};
