//! Hessians read from a statistics file, a group at a time.

use std::path::Path;

use kquant_formats::FormatError;
use kquant_formats::hessian::{self, Group, Half, packed_row};
use kquant_formats::imatrix::Imatrix;
use rayon::prelude::*;

use crate::encode::gptq::Hessian;

/// Rows that one task fills.
const PANEL: usize = 64;

/// A statistics file; matrices stay in it until they are asked for.
#[derive(Debug)]
pub struct HessianFile(hessian::HessianFile);

/// What a file has of the tensors of one input.
#[derive(Debug, Clone, Copy)]
pub struct GroupHessians<'a> {
    file: &'a hessian::HessianFile,
    number: usize,
    group: &'a Group,
}

impl HessianFile {
    /// Opens `path`, which `kquant calibrate --hessian` or `kquant imatrix merge` made.
    ///
    /// # Errors
    /// As [`hessian::HessianFile::open`].
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Ok(Self(hessian::HessianFile::open(path)?))
    }

    /// The importance of all tensors.
    pub fn importance(&self) -> &Imatrix {
        self.0.importance()
    }

    /// What the file is of.
    pub fn description(&self) -> &hessian::Description {
        self.0.description()
    }

    /// All groups, in the order of the pass.
    pub fn groups(&self) -> impl Iterator<Item = GroupHessians<'_>> {
        let groups = self.0.description().groups.iter().enumerate();
        groups.map(|(number, group)| GroupHessians { file: &self.0, number, group })
    }

    /// The group that `tensor` belongs to.
    pub fn group_of(&self, tensor: &str) -> Option<GroupHessians<'_>> {
        let number = self.0.group_of(tensor)?;
        Some(GroupHessians { file: &self.0, number, group: self.0.description().groups.get(number)? })
    }
}

impl<'a> GroupHessians<'a> {
    /// GGUF names of the tensors that share this input, in the order of the pass.
    pub fn tensors(&self) -> &'a [String] {
        &self.group.tensors
    }

    /// Columns of each.
    pub fn columns(&self) -> usize {
        self.group.columns
    }

    /// Matrices of each, with Hessians of their own; mostly 1.
    pub fn matrices(&self) -> usize {
        self.group.matrices
    }

    /// Tokens in `half` of matrix `matrix`.
    pub fn tokens(&self, matrix: usize, half: Half) -> u64 {
        self.file.tokens((self.number, matrix), half)
    }

    /// The Hessian of `half` of matrix `matrix`; `None` where no token is in it. Takes 8 bytes per element of the matrix while it works.
    ///
    /// # Errors
    /// When the file holds numbers that no outer products can be.
    pub fn read(&self, matrix: usize, half: Half) -> Result<Option<Hessian>, FormatError> {
        let (n, tokens) = (self.columns(), self.tokens(matrix, half));
        if tokens == 0 {
            return Ok(None);
        }
        let mut sums = vec![0.0; self.group.packed()];
        self.file.add_outer((self.number, matrix), half, &mut sums)?;
        let mut mean = vec![0.0; n * n];
        mean.par_chunks_mut(PANEL * n).enumerate().for_each(|(panel, rows)| {
            fill_rows(rows, panel * PANEL, &sums, n, tokens as f64);
        });
        Ok(Some(Hessian { columns: n, mean, tokens }))
    }
}

/// Fills `rows`, `[..][n]` from row `first` on, with the means of `sums`, packed upper triangle.
fn fill_rows(rows: &mut [f32], first: usize, sums: &[f64], n: usize, tokens: f64) {
    let end = first + rows.len() / n;
    // Below the diagonal, by columns: that is how the triangle lies.
    for column in 0..end {
        let upper = &sums[packed_row(n, column)];
        for row in column.max(first)..end {
            rows[(row - first) * n + column] = (upper[row - column] / tokens) as f32;
        }
    }
    for (row, values) in (first..end).zip(rows.chunks_exact_mut(n)) {
        for (value, sum) in values[row..].iter_mut().zip(&sums[packed_row(n, row)]) {
            *value = (sum / tokens) as f32;
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
            fill_rows(rows, panel * PANEL, &sums, n, 3.0);
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
