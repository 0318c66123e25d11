//! The importance matrix: sums of squares of the activations that are multiplied by each column of a weight.

use std::collections::BTreeMap;

use kquant_formats::imatrix::{Entry, Imatrix};
use rayon::prelude::*;

use super::exact::{self, ExactSums};
use crate::model::{ObserveError, Observer};
use crate::tensor::TensorName;
use crate::text::block_tokens;

/// Number of columns that a thread sums at a time, so that their sums stay in its first-level cache.
const BLOCK: usize = 1024;

/// An observer that collects an importance matrix as llama-imatrix defines it.
///
/// Squares are exact. Those of a block of text are summed in f64, row after row, and the sums of blocks are added without
/// loss, so that nothing saturates and the result depends neither on the division of the text into tiles and parts nor on
/// the number of threads.
#[derive(Debug)]
pub struct Importance {
    with_output: bool,
    /// Number of rows of a block of text.
    block: usize,
    /// Sums by the name of the first tensor of each group.
    sums: BTreeMap<String, Sums>,
    chunks: u32,
}

/// The sums of one group of tensors.
#[derive(Debug)]
pub(super) struct Sums {
    tensors: Vec<String>,
    columns: usize,
    /// Sums of squares, `[matrices][columns]`.
    pub(super) squares: ExactSums,
    /// Number of rows seen, `[matrices]`.
    pub(super) counts: Vec<u64>,
}

impl Importance {
    /// Creates an observer without sums, of chunks of `context` tokens. It observes the weights of layers (`blk.*`) and,
    /// if `with_output`, the output projection, as llama-imatrix does with `--process-output`.
    pub fn new(context: usize, with_output: bool) -> Self {
        Self { with_output, block: block_tokens(context), sums: BTreeMap::new(), chunks: 0 }
    }

    /// Returns the importance matrix of the text called `dataset` in chunks of `chunk_size` tokens.
    ///
    /// # Errors
    /// Fails when a sum exceeds f32.
    pub fn into_imatrix(self, dataset: &str, chunk_size: u32) -> Result<Imatrix, ObserveError> {
        let mut entries = BTreeMap::new();
        for (first, sums) in self.sums {
            let entry = sums.entry(&first)?;
            entries.extend(sums.tensors.into_iter().map(|tensor| (tensor, entry.clone())));
        }
        let (chunk_count, chunk_size) = (Some(self.chunks), Some(chunk_size));
        Ok(Imatrix { entries, datasets: vec![dataset.to_owned()], chunk_count, chunk_size })
    }

    /// Takes out the sums of the group whose first tensor is `first`.
    pub(super) fn take(&mut self, first: &str) -> Option<Sums> {
        self.sums.remove(first)
    }

    fn is_observed(&self, tensor: &str) -> bool {
        TensorName(tensor).is_in_layers() || (self.with_output && tensor == "output.weight")
    }

    /// Adds the rows of `x` to the sums of matrix `matrix` of `matrices` for each of `tensors`.
    fn add(
        &mut self,
        tensors: &[&str],
        (matrix, matrices): (usize, usize),
        x: &[f32],
        columns: usize,
    ) -> Result<(), ObserveError> {
        let Some(&tensor) = tensors.first() else { return Ok(()) };
        if !self.is_observed(tensor) {
            return Ok(());
        }
        let shape = |found, expected| ObserveError::Shape { tensor: tensor.to_owned(), found, expected };
        if columns == 0 || !x.len().is_multiple_of(columns) || matrix >= matrices {
            let found = format!("is {} values for matrix {matrix}", x.len());
            return Err(shape(found, format!("there are {matrices} matrices of {columns} columns")));
        }
        if !self.sums.contains_key(tensor) {
            let names = tensors.iter().map(|&name| name.to_owned()).collect();
            self.sums.insert(tensor.to_owned(), Sums::new(names, columns, matrices));
        }
        let Some(sums) = self.sums.get_mut(tensor) else { return Ok(()) };
        if (sums.columns, sums.counts.len()) != (columns, matrices) {
            let before = format!("it was {} matrices of {} columns before", sums.counts.len(), sums.columns);
            return Err(shape(format!("is for {matrices} matrices of {columns} columns"), before));
        }
        let expert = (matrices > 1).then_some(matrix);
        sums.add(matrix, x, self.block).map_err(|(row, column, value)| ObserveError::NonFinite {
            tensor: tensor.to_owned(),
            expert,
            row,
            column,
            value,
        })
    }
}

impl Observer for Importance {
    fn linear_input(&mut self, tensors: &[&str], x: &[f32], columns: usize) -> Result<(), ObserveError> {
        self.add(tensors, (0, 1), x, columns)
    }

    fn expert_input(
        &mut self,
        tensors: &[&str],
        expert: usize,
        experts: usize,
        x: &[f32],
        columns: usize,
    ) -> Result<(), ObserveError> {
        self.add(tensors, (expert, experts), x, columns)
    }

    fn end_of_chunks(&mut self, chunks: usize) {
        self.chunks = self.chunks.saturating_add(u32::try_from(chunks).unwrap_or(u32::MAX));
    }
}

impl Sums {
    fn new(tensors: Vec<String>, columns: usize, matrices: usize) -> Self {
        Self { tensors, columns, squares: ExactSums::zeros(columns * matrices), counts: vec![0; matrices] }
    }

    /// Adds rows, in blocks of `block`, to the sums of `matrix`. Fails with row number, column and value of the first
    /// value that is not finite.
    fn add(&mut self, matrix: usize, x: &[f32], block: usize) -> Result<(), (u64, usize, f32)> {
        let columns = self.columns;
        let high = &mut self.squares.high[matrix * columns..][..columns];
        let low = &mut self.squares.low[matrix * columns..][..columns];
        let parts = high.par_chunks_mut(BLOCK).zip(low.par_chunks_mut(BLOCK)).enumerate();
        parts.for_each_init(Vec::new, |sums, (part, (high, low))| {
            for rows in x.chunks(block * columns) {
                sums.clear();
                sums.resize(high.len(), 0.0);
                add_squares(sums, rows, columns, part * BLOCK);
                for ((high, low), &sum) in high.iter_mut().zip(low.iter_mut()).zip(&*sums) {
                    exact::add(high, low, sum);
                }
            }
        });
        // The sum is infinite only if a value is: squares of finite f32 cannot make an infinite f64 sum.
        if !high.iter().all(|sum| sum.is_finite())
            && let Some(i) = x.iter().position(|v| !v.is_finite())
        {
            return Err((self.counts[matrix] + (i / columns) as u64, i % columns, x[i]));
        }
        self.counts[matrix] += (x.len() / columns) as u64;
        Ok(())
    }

    /// Returns the entry for each tensor of the group; `tensor` is named in errors.
    ///
    /// # Errors
    /// Fails when a sum exceeds f32.
    pub(super) fn entry(&self, tensor: &str) -> Result<Entry, ObserveError> {
        let sums: Vec<f32> = self.squares.high.iter().map(|&sum| sum as f32).collect();
        if let Some(column) = sums.iter().position(|sum| !sum.is_finite()) {
            let sum = self.squares.high[column];
            return Err(ObserveError::Overflow { tensor: tensor.to_owned(), column, sum });
        }
        let counts = self.counts.iter().map(|&n| n as f32).collect();
        Ok(Entry { columns: self.columns, matrices: self.counts.len(), sums, counts })
    }
}

/// Adds the squares of the columns of `x` `[rows][columns]` from `at` on to `sums`, row after row.
fn add_squares(sums: &mut [f64], x: &[f32], columns: usize, at: usize) {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let n = sums.len();
    // Four rows are added each time that the sums go through memory, which is twice as fast as row by row.
    let mut fours = x.chunks_exact(4 * columns);
    for rows in &mut fours {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| &rows[row * columns + at..][..n]);
        for i in 0..n {
            sums[i] = sums[i] + square(a[i]) + square(b[i]) + square(c[i]) + square(d[i]);
        }
    }
    for row in fours.remainder().chunks_exact(columns) {
        for (sum, &v) in sums.iter_mut().zip(&row[at..]) {
            *sum += square(v);
        }
    }
}

#[cfg(test)]
mod tests;
