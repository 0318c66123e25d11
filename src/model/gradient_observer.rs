//! The hook in the backward pass.

use super::ObserveError;

/// Sees gradients of the loss, summed over positions, by what a model computes.
///
/// Calls come in a fixed order whatever the number of threads: first those of the output, then layers from the last to the
/// first, then those of the embedding. Of one tensor, rows come in the order of the tokens, in whole blocks of text
/// ([`crate::text::block_tokens`]; the last of the text may be shorter); how many blocks come at once depends on the memory
/// allowed, so a statistic must not depend on it.
pub trait GradientObserver: Send {
    /// `gradient`, `[rows][outputs]`, is that of the output of the linear map whose weight is called `tensor`; one row per token.
    ///
    /// # Errors
    /// When it is of no use; the pass should stop.
    fn output_gradient(&mut self, tensor: &str, gradient: &[f32], outputs: usize)
    -> Result<(), ObserveError>;

    /// `gradient`, `[rows][outputs]`, are the rows of one block of text that were routed to matrix number `expert` of the
    /// `experts` that `tensor` holds: maybe none. Every matrix gets a call for every block, the first block first.
    ///
    /// # Errors
    /// When it is of no use; the pass should stop.
    fn expert_output_gradient(
        &mut self,
        tensor: &str,
        expert: usize,
        experts: usize,
        gradient: &[f32],
        outputs: usize,
    ) -> Result<(), ObserveError>;

    /// Of one block of text, of `tokens` tokens: `sums`, `[vocab]`, of the mean squared gradient of each output of the output
    /// projection, over the labels that there could be: `p (1 - p)` where logits are neither scaled nor bound.
    ///
    /// # Errors
    /// When it is of no use; the pass should stop.
    fn output_variances(&mut self, sums: &[f32], tokens: usize) -> Result<(), ObserveError>;

    /// `gradient`, `[rows][hidden]`, is that of the rows looked up in the embedding.
    ///
    /// # Errors
    /// When it is of no use; the pass should stop.
    fn embedding_gradient(&mut self, gradient: &[f32], hidden: usize) -> Result<(), ObserveError>;

    /// The whole text has passed the output, or one more layer, or the embedding.
    ///
    /// # Errors
    /// When what was collected cannot be kept; the pass should stop.
    fn end_of_layer(&mut self) -> Result<(), ObserveError> {
        Ok(())
    }
}
