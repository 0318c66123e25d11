//! The assignment of rows to the matrices of one tensor: experts that tokens are routed to, or one matrix per head.

use std::ops::Range;

use rayon::prelude::*;

use crate::graph::Experts;

/// The content of [`Slot::Routes`](crate::graph::Slot::Routes) for some tokens: the numbers of a token's experts, best first
/// and as f32 like all slots, then their weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routes<'a> {
    /// Experts and weights, `[tokens][2 * used]`.
    values: &'a [f32],
    /// Number of experts that a token is routed to.
    used: usize,
}

impl<'a> Routes<'a> {
    pub(super) fn new(values: &'a [f32], used: usize) -> Self {
        Self { values, used }
    }

    /// Returns the number of values per token in the slot.
    pub(super) fn width(experts: &Experts) -> usize {
        2 * experts.used
    }

    /// Returns the experts of token number `token`, best first.
    pub(super) fn experts(&self, token: usize) -> impl Iterator<Item = usize> + use<'a> {
        self.values[token * 2 * self.used..][..self.used].iter().map(|&expert| expert as usize)
    }

    /// Writes a token's experts and their weights to `row` `[2 * used]`.
    pub(super) fn write(row: &mut [f32], experts: &[usize], weights: impl Iterator<Item = f32>) {
        let (numbers, out) = row.split_at_mut(row.len() / 2);
        for (number, &expert) in numbers.iter_mut().zip(experts) {
            *number = expert as f32;
        }
        for (out, weight) in out.iter_mut().zip(weights) {
            *out = weight;
        }
    }

    /// Returns the weights of one token's experts in `row` `[2 * used]`.
    pub(super) fn weights(row: &[f32]) -> &[f32] {
        &row[row.len() / 2..]
    }

    /// Returns the weights as [`weights`](Self::weights) does, for writing.
    pub(super) fn weights_mut(row: &mut [f32]) -> &mut [f32] {
        let used = row.len() / 2;
        &mut row[used..]
    }
}

/// One part of a token's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowPart {
    pub token: usize,
    pub part: usize,
}

/// The rule by which parts of a row are multiplied by matrices of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Assignment<'a> {
    /// Part i is multiplied by matrix i.
    Heads {
        /// Number of matrices.
        matrices: usize,
    },
    /// Each part is multiplied by the matrix of one of the token's experts.
    Experts {
        /// Number of matrices.
        matrices: usize,
        /// Experts of each token.
        routes: Routes<'a>,
    },
}

impl Assignment<'_> {
    /// Returns the number of matrices.
    pub(super) fn matrices(&self) -> usize {
        match *self {
            Self::Heads { matrices } | Self::Experts { matrices, .. } => matrices,
        }
    }

    /// Returns the number of matrices that a token is routed to.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Heads { matrices } => *matrices,
            Self::Experts { routes, .. } => routes.used,
        }
    }

    /// Returns the parts of the rows of `tokens` that are routed to each matrix, in the order of the tokens.
    pub(super) fn rows(&self, tokens: Range<usize>) -> Vec<Vec<RowPart>> {
        let mut rows = vec![Vec::new(); self.matrices()];
        for token in tokens {
            match self {
                Self::Heads { .. } => {
                    rows.iter_mut().enumerate().for_each(|(part, rows)| rows.push(RowPart { token, part }));
                }
                Self::Experts { routes, .. } => {
                    for (part, expert) in routes.experts(token).enumerate() {
                        rows[expert].push(RowPart { token, part });
                    }
                }
            }
        }
        rows
    }

    /// Returns the inputs `[rows][columns]` of each matrix, taken from the rows of `tokens` in `x`.
    pub(super) fn inputs(&self, x: RowParts, tokens: Range<usize>) -> Vec<Vec<f32>> {
        self.rows(tokens).iter().map(|rows| x.gather(rows)).collect()
    }
}

/// Rows in parts of `columns` values: one part for each matrix that a token is routed to, or a single part for all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowParts<'a> {
    /// Values of the rows, `[tokens][width]`.
    pub values: &'a [f32],
    /// Number of values per token: `columns` if a single part serves all matrices, otherwise a multiple of it.
    pub width: usize,
    /// Number of values per part.
    pub columns: usize,
}

impl RowParts<'_> {
    /// Returns the index in `[tokens][width]` at which a part begins.
    pub(super) fn place(width: usize, columns: usize, RowPart { token, part }: RowPart) -> usize {
        token * width + if width == columns { 0 } else { part * columns }
    }

    /// Copies the parts `rows` to `[rows][columns]`.
    pub(super) fn gather(&self, rows: &[RowPart]) -> Vec<f32> {
        let mut out = vec![0.0; rows.len() * self.columns];
        out.par_chunks_mut(self.columns).zip(rows).for_each(|(out, &part)| {
            let at = Self::place(self.width, self.columns, part);
            out.copy_from_slice(&self.values[at..at + self.columns]);
        });
        out
    }
}
