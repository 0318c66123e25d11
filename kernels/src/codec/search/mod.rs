//! The search encoder: it looks for the scales, offsets and codes of a row whose squared error, weighted by the
//! importance of each column, is least.
//!
//! `kquant::encode` calls [`search()`] as the encoder `search`, and as the start of the encoders with feedback. A
//! superblock starts from lines fitted to its groups (`group_line.rs`), which are coded and then improved by small
//! moves (`superblock.rs`, `superblock_descent.rs`). Candidates are in the lanes, not elements, so that no sum runs
//! across lanes and every instruction set gives the same bits.
//!
//! Against ggml's encoders the error is 0.6 to 0.99 times as large (`docs/measurements.md`). The measure is the
//! search's own, `Σ a (ŵ - w)²` with a the importance; most of ggml's encoders minimise another one, in which the
//! size of a weight counts too. 8 starts instead of 2, 12 rounds instead of 4 and 6 refits instead of 2 take the
//! k-quants several times as long and lower the error by 1 % at Q5_K, 0.4 % at Q2_K and Q4_K and less elsewhere: not
//! taken.

mod group_line;
mod levels;
mod lines;
mod superblock;
mod superblock_descent;

use self::levels::AnyLevels;
use self::superblock::{ScaledSuperblock, Scales};
use super::{Codec, Coded};
use crate::isa::{Isa, per_isa};

/// The use of a weight's size: the importance of its column is multiplied by `sqrt(sigma² + w²)`, where sigma² is the
/// mean square of the row, as in most of ggml's encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Magnitude {
    /// The size of a weight does not count.
    #[default]
    Ignored,
    /// The size counts while scales and offsets are searched, but not when the result is compared with ggml's block.
    Searching,
    /// The size counts in the search and in the comparison with ggml's block.
    Everywhere,
}

/// The options of [`search`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchOptions {
    /// The places in which large weights count more.
    pub magnitude: Magnitude,
    /// If true, ggml's superblocks are taken where they are better. Less than 1 % are, and ggml's encoder takes about
    /// half of the time, so that encoders which go on from the result do without.
    pub beside_ggml: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { magnitude: Magnitude::Ignored, beside_ggml: true }
    }
}

/// The least importance of a column, as a fraction of its superblock's mean. It keeps columns that a short text never
/// used from losing all precision; no measurement of it is recorded.
const FLOOR: f64 = 1e-3;
/// The largest exponent of the power of two that rows are divided by: the largest one whose inverse is normal. Divided
/// weights are at most about 1 unless the bound is reached.
const LARGEST_EXPONENT: i32 = 126;
/// The number of columns of the largest superblock.
const SUPERBLOCK: usize = 256;

/// Encodes one row: `row` and `importance` are `[columns]`. Without importance all columns count alike.
///
/// With [`SearchOptions::beside_ggml`] a superblock's weighted error `Σ a_j (ŵ_j - w_j)²`, where the `a_j` are
/// [`column_weights`], is never above that of ggml's encoder. Weights should be finite; for others the result is some
/// row.
///
/// # Panics
///
/// When the row is no whole number of blocks, or `importance` of another length.
pub fn search(codec: &Codec, row: &[f32], importance: Option<&[f32]>, options: SearchOptions) -> Coded {
    let mut coded = Coded::zeros(codec, row.len());
    let levels = AnyLevels::new(codec.levels);
    let weights = column_weights(codec, row, importance, options.magnitude != Magnitude::Ignored);
    let (mut x, mut a) = ([0.0; SUPERBLOCK], [0.0; SUPERBLOCK]);
    let n = codec.superblock;
    for (s, (weights, row)) in weights.chunks_exact(n).zip(row.chunks_exact(n)).enumerate() {
        let Some(unit) = unit(row) else { continue };
        for j in 0..n {
            (x[j], a[j]) = (row[j] / unit, weights[j] as f32);
        }
        let superblock = ScaledSuperblock { codec, x: &x[..n], weights: &a[..n], unit };
        let scales = best_scales(superblock, levels, &mut coded.codes[s * n..][..n]);
        store(&scales, unit, s, codec, &mut coded);
    }
    if options.beside_ggml {
        let weights = match options.magnitude {
            Magnitude::Searching => column_weights(codec, row, importance, false),
            _ => weights,
        };
        keep_better(codec, row, importance, &weights, &mut coded);
    }
    coded
}

per_isa! {
    /// Returns the best scales found, and writes the codes under them.
    fn best_scales, best_scales_on(
        superblock: ScaledSuperblock<'_>,
        levels: AnyLevels,
        codes: &mut [u8],
    ) -> Scales {
        match levels {
            AnyLevels::Integers(levels) => {
                let scales = superblock.search(levels);
                superblock.codes(&scales, levels, codes);
                scales
            }
            AnyLevels::ShortTable(levels) => {
                let scales = superblock.search(levels);
                superblock.codes(&scales, levels, codes);
                scales
            }
        }
    }
}

/// Returns the weight of each column's squared error in [`search`], `[columns]`, with mean 1 in every superblock.
///
/// Importance below a thousandth of its superblock's mean is raised to that, and importance that is not finite
/// becomes the mean. In a superblock without any importance all columns count alike.
///
/// # Panics
///
/// When `importance` is of another length than the row.
pub fn column_weights(codec: &Codec, row: &[f32], importance: Option<&[f32]>, magnitude: bool) -> Vec<f64> {
    let mut weights = match importance {
        Some(importance) => importance.iter().map(|&a| f64::from(a)).collect(),
        None => vec![1.0; row.len()],
    };
    assert_eq!(weights.len(), row.len(), "importance of the row");
    let square = |w: f32| f64::from(w) * f64::from(w);
    let variance = row.iter().map(|&w| square(w)).sum::<f64>() / row.len() as f64;
    for (weights, row) in weights.chunks_mut(codec.superblock).zip(row.chunks(codec.superblock)) {
        floor(weights);
        if magnitude && variance > 0.0 && variance.is_finite() {
            weights.iter_mut().zip(row).for_each(|(a, &w)| *a *= (variance + square(w)).sqrt());
            floor(weights);
        }
    }
    weights
}

/// Raises weights that are below the floor, then makes the mean 1.
fn floor(weights: &mut [f64]) {
    let usable = |a: f64| a.is_finite() && a > 0.0;
    let (sum, count) = weights
        .iter()
        .filter(|a| a.is_finite())
        .fold((0.0, 0usize), |(sum, count), &a| (if usable(a) { sum + a } else { sum }, count + 1));
    let mean = if sum > 0.0 { sum / count as f64 } else { 1.0 };
    for a in weights.iter_mut() {
        *a = match *a {
            a if !a.is_finite() || sum == 0.0 => 1.0,
            a => (a / mean).max(FLOOR),
        };
    }
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    weights.iter_mut().for_each(|a| *a /= mean);
}

/// Returns the power of two by which division makes the largest weight about 1; `None` when all are zero.
fn unit(row: &[f32]) -> Option<f32> {
    let largest = row.iter().fold(0.0, |largest: f32, w| w.abs().max(largest));
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    let exponent = exponent.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT);
    (largest > 0.0).then(|| f32::from_bits(((exponent + 127) as u32) << 23))
}

/// Writes the scales of superblock `s` into the row.
fn store(scales: &Scales, unit: f32, s: usize, codec: &Codec, coded: &mut Coded) {
    let groups = codec.superblock / codec.group;
    coded.d[s] = codec.float.nearest(scales.d * unit);
    coded.dmin[s] = if codec.offsets == (0..=0) { 0.0 } else { codec.float.nearest(scales.dmin * unit) };
    coded.scales[s * groups..][..groups].copy_from_slice(&scales.scales[..groups]);
    coded.offsets[s * groups..][..groups].copy_from_slice(&scales.offsets[..groups]);
}

/// Replaces superblocks by those of ggml's encoder where their weighted error is less.
fn keep_better(codec: &Codec, row: &[f32], importance: Option<&[f32]>, weights: &[f64], coded: &mut Coded) {
    let Some(encode) = codec.block.encode else { return };
    let mut bytes = vec![0; row.len() / codec.block.elements * codec.block.bytes];
    encode(Isa::current(), row, importance, &mut bytes);
    let theirs = codec.read(&bytes, row.len());
    let errors = |coded: &Coded| {
        let mut decoded = vec![0.0; row.len()];
        codec.decode(coded, &mut decoded);
        superblock_errors(codec, weights, row, &decoded)
    };
    for (s, (ours, ggml)) in errors(coded).into_iter().zip(errors(&theirs)).enumerate() {
        // ggml's error is NaN, and not less, where its scale is past the range of half precision.
        if ggml < ours {
            take(codec, &theirs, s, coded);
        }
    }
}

/// Returns `Σ a (ŵ - w)²` for every superblock.
fn superblock_errors(codec: &Codec, weights: &[f64], row: &[f32], decoded: &[f32]) -> Vec<f64> {
    let n = codec.superblock;
    let superblocks = weights.chunks_exact(n).zip(row.chunks_exact(n)).zip(decoded.chunks_exact(n));
    superblocks
        .map(|((weights, row), decoded)| {
            let errors = row.iter().zip(decoded).map(|(&w, &decoded)| f64::from(decoded) - f64::from(w));
            weights.iter().zip(errors).map(|(a, error)| a * error * error).sum()
        })
        .collect()
}

/// Copies superblock `s` of `from` to `into`.
fn take(codec: &Codec, from: &Coded, s: usize, into: &mut Coded) {
    let (n, groups) = (codec.superblock, codec.superblock / codec.group);
    (into.d[s], into.dmin[s]) = (from.d[s], from.dmin[s]);
    let groups = s * groups..(s + 1) * groups;
    into.scales[groups.clone()].copy_from_slice(&from.scales[groups.clone()]);
    into.offsets[groups.clone()].copy_from_slice(&from.offsets[groups]);
    into.codes[s * n..][..n].copy_from_slice(&from.codes[s * n..][..n]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::TYPES;
    use crate::isa::Isa;

    #[test]
    fn every_instruction_set_finds_the_same() {
        let noise = |k: usize| ((k * 7919 % 20011) as f32 / 10006.0 - 1.0).powi(3);
        for codec in TYPES.iter().filter_map(|ty| Codec::of(ty)) {
            let levels = AnyLevels::new(codec.levels);
            for seed in 0..8 {
                let n = codec.superblock;
                let x: Vec<f32> = (0..n).map(|j| noise(j + 1000 * seed)).collect();
                let weights: Vec<f32> = (0..n).map(|j| noise(3 * j + 77 * seed).abs() + 1e-3).collect();
                let superblock = ScaledSuperblock { codec, x: &x, weights: &weights, unit: 0.125 };
                let found: Vec<_> = Isa::available()
                    .into_iter()
                    .map(|isa| {
                        let mut codes = vec![0; n];
                        (best_scales_on(isa, superblock, levels, &mut codes), codes)
                    })
                    .collect();
                assert!(found.iter().all(|other| *other == found[0]), "{}", codec.block.name);
            }
        }
    }

    #[test]
    fn importance_is_floored_and_of_mean_one() {
        let codec = TYPES.iter().find_map(|ty| Codec::of(ty)).unwrap();
        let n = codec.superblock;
        let mut importance = vec![4.0; 2 * n];
        (importance[0], importance[1], importance[2]) = (0.0, f32::INFINITY, -1.0);
        importance[n..].fill(0.0);
        let weights = column_weights(codec, &vec![1.0; 2 * n], Some(&importance), false);
        assert!(weights[0] > 5e-4 && weights[0] < 2e-3 && weights[0] == weights[2]);
        assert!(weights[1] > 0.5 && weights[1] < weights[3]);
        assert!((weights[..n].iter().sum::<f64>() / n as f64 - 1.0).abs() < 1e-12);
        assert_eq!(weights[n..], vec![1.0; n]);
    }

    #[test]
    fn large_weights_count_more_if_asked() {
        let codec = TYPES.iter().find_map(|ty| Codec::of(ty)).unwrap();
        let mut row = vec![1.0; codec.superblock];
        row[3] = 3.0;
        let weights = column_weights(codec, &row, None, true);
        let variance = row.iter().map(|w| f64::from(w * w)).sum::<f64>() / row.len() as f64;
        assert!((weights[3] / weights[0] - ((variance + 9.0) / (variance + 1.0)).sqrt()).abs() < 1e-12);
        assert_eq!(column_weights(codec, &row, None, false), vec![1.0; row.len()]);
    }
}
