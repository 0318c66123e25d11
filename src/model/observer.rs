//! The hook in the forward pass.

use kquant_formats::FormatError;

/// Sees what the forward pass computes: the activations that enter the linear layers.
///
/// Calls come in a fixed order whatever the number of threads. Rows come in the order of the tokens, in whole blocks of text
/// ([`crate::text::block_tokens`]; the last of the text may be shorter); how many blocks come at once depends on the memory
/// allowed, so a statistic must not depend on it.
pub trait Observer: Send {
    /// `x`, `[rows][columns]`, is about to be multiplied with the weights whose GGUF names are `tensors`, at least one; one row
    /// per token. The same names come together every time.
    ///
    /// # Errors
    /// When the activations are of no use; the pass should stop.
    fn linear_input(&mut self, tensors: &[&str], x: &[f32], columns: usize) -> Result<(), ObserveError>;

    /// `x`, `[rows][columns]`, are the rows of one block of text that are routed to matrix number `expert` of the `experts` that each of
    /// `tensors`, at least one, holds: maybe none. Every matrix gets a call for every block, the first block first. The same
    /// names come together every time.
    ///
    /// # Errors
    /// When the activations are of no use; the pass should stop.
    fn expert_input(
        &mut self,
        tensors: &[&str],
        expert: usize,
        experts: usize,
        x: &[f32],
        columns: usize,
    ) -> Result<(), ObserveError>;

    /// The chunks at hand have passed one more layer.
    ///
    /// # Errors
    /// When what was collected cannot be kept; the pass should stop.
    fn end_of_layer(&mut self) -> Result<(), ObserveError> {
        Ok(())
    }

    /// `chunks` more chunks of the text have passed all layers.
    fn end_of_chunks(&mut self, chunks: usize);
}

/// Why activations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// NaN or infinite.
    #[error(
        "tensor `{tensor}`{}: its input number {row} has {value} in column {column}. \
         The model is damaged or its activations exceed f32; no statistics can be made with this text",
        Expert(*.expert)
    )]
    NonFinite {
        /// GGUF name of the weight.
        tensor: String,
        /// The expert that the rows are routed to, if the tensor holds several.
        expert: Option<usize>,
        /// Number of the row among all that have entered this weight (of this expert), from 0; in a dense model, the number of
        /// the token.
        row: u64,
        /// Column.
        column: usize,
        /// What stands there.
        value: f32,
    },
    /// The shape is not what it was before, or no shape at all.
    #[error(
        "tensor `{tensor}`: its input {found}, but {expected}. The model is inconsistent; convert it again"
    )]
    Shape {
        /// GGUF name of the weight.
        tensor: String,
        /// What came.
        found: String,
        /// What should have come.
        expected: String,
    },
    /// A sum is too large for the file formats.
    #[error(
        "tensor `{tensor}`: the sum of squares of column {column} is {sum:e}, more than f32 holds. \
         The model is damaged, or give less text"
    )]
    Overflow {
        /// GGUF name of the weight.
        tensor: String,
        /// Column, counted through all matrices.
        column: usize,
        /// The sum.
        sum: f64,
    },
    /// What was collected cannot be written.
    #[error(transparent)]
    Write(#[from] FormatError),
}

struct Expert(Option<usize>);

impl std::fmt::Display for Expert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |expert| write!(f, ", expert {expert}"))
    }
}
