//! Reading of Hessians from a statistics file, one group at a time.

use std::path::Path;

use kquant_formats::FormatError;
use kquant_formats::hessian::{self, Fisher, Group, Half, packed_row};
use kquant_formats::imatrix::Imatrix;
use rayon::prelude::*;

use crate::encode::feedback::Hessian;
use crate::model::OUTPUT;

/// Number of rows that one task fills.
const PANEL: usize = 64;

/// A statistics file, whose matrices are read when they are asked for.
#[derive(Debug)]
pub struct HessianFile(hessian::HessianFile);

/// The statistics of the tensors that share one input.
#[derive(Debug, Clone, Copy)]
pub struct GroupHessians<'a> {
    file: &'a hessian::HessianFile,
    number: usize,
    group: &'a Group,
}

impl HessianFile {
    /// Opens the file `path`, written by `kquant calibrate --hessian` or `kquant imatrix merge`.
    ///
    /// # Errors
    /// Fails as [`hessian::HessianFile::open`] does.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Ok(Self(hessian::HessianFile::open(path)?))
    }

    /// Returns the importance of all tensors.
    pub fn importance(&self) -> &Imatrix {
        self.0.importance()
    }

    /// Returns the description of the model and text that the statistics are of.
    pub fn description(&self) -> &hessian::Description {
        self.0.description()
    }

    /// Returns all groups, in the order of the pass.
    pub fn groups(&self) -> impl Iterator<Item = GroupHessians<'_>> {
        let groups = self.0.description().groups.iter().enumerate();
        groups.map(|(number, group)| GroupHessians { file: &self.0, number, group })
    }

    /// Returns the Fisher matrix of the outputs of `tensor`, `[outputs][outputs]`: the mean of `g'g` over gradients g of
    /// the loss. For `token_embd.weight` it is the matrix of the rows looked up. Returns `None` if the file has none; for
    /// `output.weight` it has [the diagonal](Self::output_fisher). Reading takes 8 bytes per element of the matrix.
    ///
    /// # Errors
    /// Fails when the file holds numbers that cannot be sums of outer products.
    pub fn fisher(&self, tensor: &str) -> Result<Option<Hessian>, FormatError> {
        let Some((number, fisher)) = self.find_fisher(tensor).filter(|(_, f)| !f.is_diagonal()) else {
            return Ok(None);
        };
        let tokens = self.0.fisher_tokens(number);
        if tokens == 0 {
            return Ok(None);
        }
        let mut sums = vec![0.0; fisher.values()];
        self.0.add_fisher(number, &mut sums)?;
        Ok(Some(unpacked(&sums, fisher.outputs, tokens, |sum| (sum / tokens as f64) as f32)))
    }

    /// Returns the diagonal of the Fisher matrix of the output projection's outputs, with one number for each row of the
    /// vocabulary.
    ///
    /// # Errors
    /// Fails when the file holds numbers that cannot be sums of squares.
    pub fn output_fisher(&self) -> Result<Option<Vec<f32>>, FormatError> {
        let Some((number, fisher)) = self.find_fisher(OUTPUT) else { return Ok(None) };
        let tokens = self.0.fisher_tokens(number);
        let mut sums = vec![0.0; fisher.values()];
        self.0.add_fisher(number, &mut sums)?;
        Ok((tokens > 0).then(|| sums.iter().map(|sum| (sum / tokens as f64) as f32).collect()))
    }

    fn find_fisher(&self, tensor: &str) -> Option<(usize, &Fisher)> {
        let all = &self.0.description().fishers.as_ref()?.tensors;
        all.iter().enumerate().find(|(_, fisher)| fisher.tensor == tensor)
    }

    /// Returns the group that `tensor` belongs to.
    pub fn group_of(&self, tensor: &str) -> Option<GroupHessians<'_>> {
        let number = self.0.group_of(tensor)?;
        Some(GroupHessians { file: &self.0, number, group: self.0.description().groups.get(number)? })
    }
}

impl<'a> GroupHessians<'a> {
    /// Returns the GGUF names of the tensors that share this input, in the order of the pass.
    pub fn tensors(&self) -> &'a [String] {
        &self.group.tensors
    }

    /// Returns the number of columns of each tensor.
    pub fn columns(&self) -> usize {
        self.group.columns
    }

    /// Returns the number of matrices of each tensor, which have Hessians of their own; it is 1 except for experts and
    /// heads.
    pub fn matrices(&self) -> usize {
        self.group.matrices
    }

    /// Returns the number of tokens in `half` of the text that reached matrix `matrix`.
    pub fn tokens(&self, matrix: usize, half: Half) -> u64 {
        self.file.tokens((self.number, matrix), half)
    }

    /// Returns the Hessian of matrix `matrix` over `half` of the text; `None` if no token is in it. Reading takes 8 bytes
    /// per element of the matrix.
    ///
    /// # Errors
    /// Fails when the file holds numbers that cannot be sums of outer products.
    pub fn read(&self, matrix: usize, half: Half) -> Result<Option<Hessian>, FormatError> {
        let (n, tokens) = (self.columns(), self.tokens(matrix, half));
        if tokens == 0 {
            return Ok(None);
        }
        let mut sums = vec![0.0; self.group.packed()];
        self.file.add_outer((self.number, matrix), half, &mut sums)?;
        Ok(Some(unpacked(&sums, n, tokens, |sum| (sum / tokens as f64) as f32)))
    }
}

/// Returns the symmetric matrix of a packed upper triangle of `n` rows, with `mean` applied to each element of `packed`.
pub(super) fn unpacked<T: Copy + Sync>(
    packed: &[T],
    n: usize,
    tokens: u64,
    mean: impl Fn(T) -> f32 + Sync,
) -> Hessian {
    let mut all = vec![0.0; n * n];
    all.par_chunks_mut(PANEL * n).enumerate().for_each(|(panel, rows)| {
        fill_rows(rows, panel * PANEL, packed, n, &mean);
    });
    Hessian { columns: n, mean: all, tokens }
}

/// Fills `rows` `[..][n]`, which begin at row `first` of the matrix.
fn fill_rows<T: Copy>(rows: &mut [f32], first: usize, packed: &[T], n: usize, mean: &impl Fn(T) -> f32) {
    let end = first + rows.len() / n;
    // Elements below the diagonal are visited by columns, the order in which the triangle is stored.
    for column in 0..end {
        let upper = &packed[packed_row(n, column)];
        for row in column.max(first)..end {
            rows[(row - first) * n + column] = mean(upper[row - column]);
        }
    }
    for (row, values) in (first..end).zip(rows.chunks_exact_mut(n)) {
        for (value, one) in values[row..].iter_mut().zip(&packed[packed_row(n, row)]) {
            *value = mean(*one);
        }
    }
}

#[cfg(test)]
mod tests {
    use kquant_formats::hessian::packed;

    use super::*;

    #[test]
    fn matrices_are_unpacked_to_both_sides() {
        let n = 2 * PANEL + 3;
        let sums: Vec<f64> = (0..packed(n)).map(|i| i as f64 * 3.0).collect();
        let mut mean = vec![f32::NAN; n * n];
        for (panel, rows) in mean.chunks_mut(PANEL * n).enumerate() {
            fill_rows(rows, panel * PANEL, &sums, n, &|sum: f64| (sum / 3.0) as f32);
        }
        let mut expected = 0.0;
        for i in 0..n {
            for j in i..n {
                assert_eq!([mean[i * n + j], mean[j * n + i]], [expected; 2], "{i} {j}");
                expected += 1.0;
            }
        }
    }
}
