//! The seam of calibrated encoding: what a way to encode whole layers has to know, how it encodes, and what its errors cost.

use std::sync::atomic::AtomicBool;

use kquant_kernels::block::BlockType;

use super::feedback::{Feedback, Hessian, Losses};

/// What a method has to know besides the Hessians of inputs, which all of them need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// True if it uses Fisher matrices of outputs.
    pub fishers: bool,
}

/// A matrix to encode with what is known of its inputs and outputs.
pub struct LayerTensor<'a> {
    /// The type.
    pub block: &'a BlockType,
    /// The factored Hessian of the inputs, arranged for the type's unit.
    pub inputs: &'a Feedback,
    /// The factored Fisher matrix of the outputs, one column per row of the matrix, where it is known and used.
    pub outputs: Option<&'a Feedback>,
    /// The inputs' Hessian of held-out text, which decides among candidates, where there is some.
    pub held_out: Option<&'a Hessian>,
    /// What is to be encoded, `[rows][columns]`.
    pub targets: &'a [f32],
    /// Set from outside to stop early.
    pub cancel: &'a AtomicBool,
}

/// A way to encode the matrices of layers by what a text shows of their inputs.
///
/// The caller factors Hessians, corrects targets and keeps books; the method decides codes. An [`Encoder`](super::Encoder) that has one gives it to calibrated runs.
pub trait LayerMethod: std::fmt::Debug + Send + Sync {
    /// Returns what has to be known.
    fn needs(&self) -> Needs;

    /// Returns the number of columns that `block` rounds together, by which inputs are to be arranged; `None` for a type that the method has no use for, which is encoded
    /// row by row.
    fn unit(&self, block: &BlockType) -> Option<usize>;

    /// Encodes `tensor` into `out`, exactly its bytes, and returns what was lost; `None` when it was cancelled.
    fn encode(&self, tensor: &LayerTensor, out: &mut [u8]) -> Option<Losses>;

    /// Returns what an error of each output costs, relative to the loss of the row, when the outputs have the Fisher matrix `fisher`: the weights of the prices of rows.
    fn output_costs(&self, fisher: Hessian) -> Vec<f64>;

    /// Returns the floating-point operations of the matrix products that `rows` rows of `columns` columns take, with outputs that are known or not.
    fn operations(&self, rows: u64, columns: usize, with_outputs: bool) -> f64;
}
