//! Sequential rounding of a tile: each column gets the code nearest to the value that compensates the errors before it.

use kquant_kernels::feedback::{Coding, LANES, Lanes, Rounded, Tiles, round, round_vectors};
use kquant_kernels::linalg::View;

use super::tile::{BATCH, Shared, Strip, Tile, set_strip, strip};
use crate::encode::feedback::factored::subtract;

/// Codes for all rows of a tile, on fixed grids.
pub(super) struct Candidate {
    /// Codes of the columns, by strip.
    codes: Vec<Vec<[u8; LANES]>>,
    /// Errors `ŵ - w`, `[n][strips]`.
    errors: Vec<Lanes>,
    /// Losses by strip: `Σ D_k r_k²`, which equals `e H' e'`.
    losses: Vec<[f64; LANES]>,
}

impl Candidate {
    /// Rounds `targets` on the grids of `codings`, both by strip.
    pub(super) fn new(shared: &Shared, targets: &[&[Lanes]], codings: &[&Coding]) -> Self {
        let (feedback, codec) = (shared.feedback, shared.codec);
        let (n, strips) = (feedback.columns, targets.len());
        let grids: Vec<_> = codings.iter().map(|coding| coding.grid(codec)).collect();
        let mut candidate = Self {
            codes: vec![vec![[0; LANES]; n]; strips],
            errors: vec![[0.0; LANES]; n * strips],
            losses: vec![[0.0; LANES]; strips],
        };
        let mut in_order: Vec<Lanes> = vec![[0.0; LANES]; n * strips];
        for first in (0..n).step_by(BATCH) {
            let b = BATCH.min(n - first);
            let columns = &feedback.order[first..first + b];
            let (earlier, batch) = in_order.split_at_mut(first * strips);
            let batch = &mut batch[..b * strips];
            for (x, &j) in batch.chunks_exact_mut(strips).zip(columns) {
                x.iter_mut().zip(targets).for_each(|(x, targets)| *x = targets[j]);
            }
            subtract(batch, View::new(&feedback.lower[first * n..], b, first, n, 1), earlier, strips);
            let within = Tiles::new(&feedback.lower[first * n + first..], n, b, b);
            for s in 0..strips {
                let batch_targets: Vec<Lanes> = columns.iter().map(|&j| targets[s][j]).collect();
                let [mut errors, mut residuals] = [vec![[0.0; LANES]; b], vec![[0.0; LANES]; b]];
                let mut codes: Vec<_> = columns.iter().map(|&j| codings[s].codes[j]).collect();
                let mut rounded = Rounded {
                    grid: &grids[s],
                    groups: &shared.groups_in_order[first..first + b],
                    targets: &batch_targets,
                    codes: &mut codes,
                    errors: &mut errors,
                    residuals: &mut residuals,
                };
                let x = strip(batch, strips, s);
                match shared.vectors {
                    Some(vectors) => {
                        let factors = (&within, &feedback.pivots[first..first + b]);
                        round_vectors(vectors, factors, &x, &mut rounded);
                    }
                    None => round(codec, &within, &x, &mut rounded),
                }
                set_strip(batch, strips, s, &errors);
                for (codes, &j) in codes.iter().zip(columns) {
                    candidate.codes[s][j] = *codes;
                }
                add_squares(&mut candidate.losses[s], &residuals, &feedback.pivots[first..]);
            }
            for (errors, &j) in batch.chunks_exact(strips).zip(columns) {
                candidate.errors[j * strips..][..strips].copy_from_slice(errors);
            }
        }
        candidate
    }
}

fn add_squares(loss: &mut [f64; LANES], residuals: &[Lanes], pivots: &[f32]) {
    for (residual, &pivot) in residuals.iter().zip(pivots) {
        for l in 0..LANES {
            let residual = f64::from(residual[l]);
            loss[l] += f64::from(pivot) * residual * residual;
        }
    }
}

impl Tile<'_> {
    /// Rounds on the present grids and keeps the better codes, row by row.
    pub(super) fn round_again(&mut self) {
        let targets: Vec<&[Lanes]> = self.strips.iter().map(|strip| &strip.targets[..]).collect();
        let codings: Vec<&Coding> = self.strips.iter().map(|strip| &strip.coding).collect();
        let candidate = Candidate::new(self.shared, &targets, &codings);
        self.offer(candidate, None);
    }

    /// Rounds on the grids of other `codings`, by strip, and keeps the better codes, row by row.
    pub(super) fn try_grids(&mut self, codings: &[Coding]) {
        let targets: Vec<&[Lanes]> = self.strips.iter().map(|strip| &strip.targets[..]).collect();
        let candidate = Candidate::new(self.shared, &targets, &codings.iter().collect::<Vec<_>>());
        self.offer(candidate, Some(codings));
    }

    fn offer(&mut self, candidate: Candidate, codings: Option<&[Coding]>) {
        let strips = self.strips.len();
        for (s, own) in self.strips.iter_mut().enumerate() {
            let Strip { coding, loss, .. } = own;
            let better: [bool; LANES] = std::array::from_fn(|l| candidate.losses[s][l] < loss[l]);
            let mut rounded = codings.map_or_else(|| coding.clone(), |codings| codings[s].clone());
            rounded.codes.copy_from_slice(&candidate.codes[s]);
            coding.take(&rounded, &better);
            for l in (0..LANES).filter(|&l| better[l]) {
                loss[l] = candidate.losses[s][l];
            }
            let errors = self.errors[s..].iter_mut().step_by(strips);
            for (error, new) in errors.zip(candidate.errors[s..].iter().step_by(strips)) {
                for l in 0..LANES {
                    error[l] = if better[l] { new[l] } else { error[l] };
                }
            }
        }
    }
}
