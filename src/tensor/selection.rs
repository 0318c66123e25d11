//! Tensors that are made of some matrices, rows and columns of another: what is left of it after pruning.

use std::sync::Arc;

use super::{MappedTensor, Source};

/// Numbers of the matrices, rows and columns that are taken, in the order of the result; `None` takes all as they are.
///
/// A bias of one matrix is one row, so that its elements are columns; a bias of several matrices has one row for each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Matrices of a mixture.
    pub matrices: Option<Arc<[u32]>>,
    /// Rows of each matrix.
    pub rows: Option<Arc<[u32]>>,
    /// Columns of each row.
    pub columns: Option<Arc<[u32]>>,
}

impl Selection {
    /// Takes the rows `rows`.
    pub fn of_rows(rows: impl Into<Arc<[u32]>>) -> Self {
        Self { rows: Some(rows.into()), ..Self::default() }
    }

    /// Takes the columns `columns`.
    pub fn of_columns(columns: impl Into<Arc<[u32]>>) -> Self {
        Self { columns: Some(columns.into()), ..Self::default() }
    }

    /// Takes the matrices `matrices`.
    pub fn of_matrices(matrices: impl Into<Arc<[u32]>>) -> Self {
        Self { matrices: Some(matrices.into()), ..Self::default() }
    }

    /// Returns the row of `of` that becomes row `row`; `None` if the lists hold no such row.
    pub(super) fn source(&self, of: &MappedTensor, row: u64) -> Option<u64> {
        let per_matrix = self.rows.as_ref().map_or(of.rows_per_matrix(), |rows| rows.len() as u64).max(1);
        let (matrix, row) = (row / per_matrix, row % per_matrix);
        Some(listed(&self.matrices, matrix)? * of.rows_per_matrix() + listed(&self.rows, row)?)
    }

    /// Returns the dimensions of what is taken of a tensor of dimensions `shape`, columns first.
    fn shape(&self, shape: &[u64]) -> Vec<u64> {
        let lists = [&self.columns, &self.rows, &self.matrices].into_iter().chain(std::iter::repeat(&None));
        shape.iter().zip(lists).map(|(&all, list)| list.as_ref().map_or(all, |l| l.len() as u64)).collect()
    }
}

/// Returns number `at` of `list`; the number itself if there is no list.
fn listed(list: &Option<Arc<[u32]>>, at: u64) -> Option<u64> {
    match list {
        None => Some(at),
        Some(list) => list.get(usize::try_from(at).ok()?).map(|&n| u64::from(n)),
    }
}

impl MappedTensor {
    /// Returns the tensor of the same name that is left when only `selection` is taken of this one.
    ///
    /// Numbers that it does not have are told of when rows are read.
    pub fn select(&self, selection: Selection) -> Self {
        Self {
            name: self.name.clone(),
            shape: selection.shape(&self.shape),
            source: Source::Selected { of: Box::new(self.clone()), selection },
            keep: self.keep,
        }
    }

    /// Returns the tensor that selections are made of in the end, which is this one if it is none.
    pub(crate) fn unselected(&self) -> &Self {
        match &self.source {
            Source::Selected { of, .. } => of.unselected(),
            _ => self,
        }
    }

    /// Returns true if the rows have some of the columns of those that they are made of.
    pub(crate) fn has_selected_columns(&self) -> bool {
        match &self.source {
            Source::Selected { of, selection } => selection.columns.is_some() || of.has_selected_columns(),
            _ => false,
        }
    }
}
