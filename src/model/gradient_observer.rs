//! The interface to statistics of the backward pass.

use super::ObserveError;

/// An observer of gradients of the loss, summed over positions, with respect to what a model computes.
///
/// Calls come in a fixed order for any number of threads: first the gradients of the output, then those of the layers from
/// the last to the first, then those of the embedding. Rows of one tensor come in the order of the tokens, in whole blocks
/// of text ([`crate::text::block_tokens`]; the last block of the text may be shorter). The number of blocks per call depends
/// on the memory limit, so that a statistic must not depend on it.
pub trait GradientObserver: Send {
    /// Receives `gradient` `[rows][outputs]` of the output of the linear map whose weight is called `tensor`, with one row
    /// per token.
    ///
    /// # Errors
    /// Fails when the gradient is of no use; the pass then stops.
    fn output_gradient(&mut self, tensor: &str, gradient: &[f32], outputs: usize)
    -> Result<(), ObserveError>;

    /// Receives `gradient` `[rows][outputs]` of the rows of one block of text that were routed to matrix number `expert` of
    /// the `experts` that `tensor` holds; there may be none. Every matrix gets one call per block, in the order of the
    /// blocks.
    ///
    /// # Errors
    /// Fails when the gradient is of no use; the pass then stops.
    fn expert_output_gradient(
        &mut self,
        tensor: &str,
        expert: usize,
        experts: usize,
        gradient: &[f32],
        outputs: usize,
    ) -> Result<(), ObserveError>;

    /// Receives, for one block of text of `tokens` tokens, the sums `[vocab]` over its tokens of the mean squared gradient
    /// of each output of the output projection. The mean is over all possible labels: `p (1 - p)` where logits are neither
    /// scaled nor capped.
    ///
    /// # Errors
    /// Fails when the sums are of no use; the pass then stops.
    fn output_variances(&mut self, sums: &[f32], tokens: usize) -> Result<(), ObserveError>;

    /// Receives `gradient` `[rows][hidden]` of the rows looked up in the embedding.
    ///
    /// # Errors
    /// Fails when the gradient is of no use; the pass then stops.
    fn embedding_gradient(&mut self, gradient: &[f32], hidden: usize) -> Result<(), ObserveError>;

    /// Returns the observer of gradients of weights, if there is to be one; the pass then keeps what they are made of.
    fn weights(&mut self) -> Option<&mut dyn WeightObserver> {
        None
    }

    /// Is called when the whole text has passed the output, one more layer, or the embedding.
    ///
    /// # Errors
    /// Fails when the statistics cannot be kept; the pass then stops.
    fn end_of_layer(&mut self) -> Result<(), ObserveError> {
        Ok(())
    }
}

/// An observer that forms gradients of weights, given what an operation read and the gradient of what it wrote.
///
/// Calls come as those of a [`GradientObserver`]. Every call adds to a gradient of zeros, so that a table that is read twice,
/// as the embedding and as the output projection, gets both parts.
pub trait WeightObserver {
    /// Adds `gradient' x` to the gradient of rows `first..first + outputs` of `tensor`, all its matrices counted as one, with
    /// `gradient` `[rows][outputs]` and `x` `[rows][columns]`.
    fn product(&mut self, tensor: &str, first: usize, gradient: &[f32], x: &[f32], columns: usize);

    /// Adds the sums of the columns of `values` `[rows][width]` to the gradient of elements `first..first + width` of `tensor`.
    fn columns(&mut self, tensor: &str, first: usize, values: &[f32], width: usize);

    /// Adds row i of `gradient` `[rows][columns]` to the gradient of row `numbers[i]` of `tensor`.
    fn rows(&mut self, tensor: &str, numbers: &[u32], gradient: &[f32], columns: usize);
}
