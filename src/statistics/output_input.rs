//! Outer products of the output projection's input, without other statistics.

use kquant_formats::hessian::packed;

use super::hessian_file::unpacked;
use super::outer::add_outer;
use crate::encode::feedback::Hessian;
use crate::model::{OUTPUT, ObserveError, Observer};

/// An observer that sums the outer products of the final norm's output.
pub(super) struct OutputInput {
    sums: Vec<f64>,
    columns: usize,
    tokens: u64,
    /// Number of tokens of a block of text.
    block: usize,
}

impl OutputInput {
    /// Creates an observer without sums, for `columns` columns and blocks of `block` tokens.
    pub(super) fn new(columns: usize, block: usize) -> Self {
        Self { sums: vec![0.0; packed(columns)], columns, tokens: 0, block }
    }

    /// Returns the mean outer product; `None` if there were no tokens.
    pub(super) fn mean(&self) -> Option<Hessian> {
        let mean = |sum: f64| (sum / self.tokens as f64) as f32;
        (self.tokens > 0).then(|| unpacked(&self.sums, self.columns, self.tokens, mean))
    }
}

impl Observer for OutputInput {
    fn linear_input(&mut self, tensors: &[&str], x: &[f32], columns: usize) -> Result<(), ObserveError> {
        if tensors == [OUTPUT] {
            x.chunks(self.block * columns).for_each(|x| add_outer(&mut self.sums, x, columns));
            self.tokens += (x.len() / columns) as u64;
        }
        Ok(())
    }

    fn expert_input(
        &mut self,
        _tensors: &[&str],
        _expert: usize,
        _experts: usize,
        _x: &[f32],
        _columns: usize,
    ) -> Result<(), ObserveError> {
        Ok(())
    }

    fn end_of_chunks(&mut self, _chunks: usize) {}
}
