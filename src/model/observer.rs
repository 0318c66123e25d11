//! The interface to statistics of the forward pass.

use kquant_formats::FormatError;

/// An observer of the forward pass, which sees the inputs of the linear maps.
///
/// Calls come in a fixed order for any number of threads. Rows come in the order of the tokens, in whole blocks of text
/// ([`crate::text::block_tokens`]; the last block of the text may be shorter). The number of blocks per call depends on the
/// memory limit, so that a statistic must not depend on it.
pub trait Observer: Send {
    /// Receives `x` `[rows][columns]`, one row per token, before it is multiplied by the weights whose GGUF names are
    /// `tensors`, at least one. The same names come together every time.
    ///
    /// # Errors
    /// Fails when the activations are of no use; the pass then stops.
    fn linear_input(&mut self, tensors: &[&str], x: &[f32], columns: usize) -> Result<(), ObserveError>;

    /// Receives `x` `[rows][columns]`, the rows of one block of text that are routed to matrix number `expert` of the
    /// `experts` that each of `tensors`, at least one, holds; there may be none. Every matrix gets one call per block, in
    /// the order of the blocks. The same names come together every time.
    ///
    /// # Errors
    /// Fails when the activations are of no use; the pass then stops.
    fn expert_input(
        &mut self,
        tensors: &[&str],
        expert: usize,
        experts: usize,
        x: &[f32],
        columns: usize,
    ) -> Result<(), ObserveError>;

    /// Is called when the current chunks have passed one more layer.
    ///
    /// # Errors
    /// Fails when the statistics cannot be kept; the pass then stops.
    fn end_of_layer(&mut self) -> Result<(), ObserveError> {
        Ok(())
    }

    /// Is called when `chunks` more chunks of the text have passed all layers.
    fn end_of_chunks(&mut self, chunks: usize);
}

/// The reason why activations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// An activation is NaN or infinite.
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
        /// Number of the row among all inputs of this weight (and this expert), from 0. In a dense model, it is the number
        /// of the token.
        row: u64,
        /// Column of the activation, from 0.
        column: usize,
        /// Value of the activation.
        value: f32,
    },
    /// The input has another shape than before, or an invalid one.
    #[error(
        "tensor `{tensor}`: its input {found}, but {expected}. The model is inconsistent; convert it again"
    )]
    Shape {
        /// GGUF name of the weight.
        tensor: String,
        /// Description of the input that came.
        found: String,
        /// Description of the input that was expected.
        expected: String,
    },
    /// A sum is too large for the file format.
    #[error(
        "tensor `{tensor}`: the sum of squares of column {column} is {sum:e}, more than f32 holds. \
         The model is damaged, or give less text"
    )]
    Overflow {
        /// GGUF name of the weight.
        tensor: String,
        /// Column, counted over all matrices, from 0.
        column: usize,
        /// Value of the sum.
        sum: f64,
    },
    /// The statistics cannot be written.
    #[error(transparent)]
    Write(#[from] FormatError),
}

struct Expert(Option<usize>);

impl std::fmt::Display for Expert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |expert| write!(f, ", expert {expert}"))
    }
}
