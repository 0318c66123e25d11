//! The search encoder: scales, offsets and codes of a row for the least error that each column's importance weighs.

mod descent;
mod grid;
mod levels;
mod lines;
mod superblock;

use self::levels::AnyLevels;
use self::superblock::{Scales, Superblock};
use super::{Codec, Coded};
use crate::isa::{Isa, per_isa};

/// Where the size of a weight counts besides the importance of its column: times `sqrt(sigma² + w²)`, sigma² the mean
/// square of the row, as ggml's encoders have it for most types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Magnitude {
    /// Nowhere.
    #[default]
    Ignored,
    /// While scales and offsets are searched, but not where the result is compared with ggml's block.
    Searching,
    /// There too.
    Everywhere,
}

/// How [`search`] weighs errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchOptions {
    /// Whether large weights count more.
    pub magnitude: Magnitude,
    /// Whether ggml's superblocks are taken where they are better. Seldom, below 1 %, and it takes about half of the
    /// time, so that encoders which go on from here can do without.
    pub beside_ggml: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { magnitude: Magnitude::Ignored, beside_ggml: true }
    }
}

/// The least importance of a column, as a fraction of its superblock's mean.
const FLOOR: f64 = 1e-3;
/// Scaled weights are at most about 1, unless the power of two that would do it had no inverse.
const LARGEST_EXPONENT: i32 = 126;
/// Columns of the largest superblock.
const SUPERBLOCK: usize = 256;

/// Encodes one row: `row` and `importance` `[columns]`. Without importance all columns count alike.
///
/// A superblock's weighted error `Σ a_j (ŵ_j - w_j)²` ([`column_weights`] are the `a_j`) is never above that of ggml's
/// encoder: where ggml's block is better it is taken. Expects finite weights; for others it gives some row.
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
        let superblock = Superblock { codec, x: &x[..n], weights: &a[..n], unit };
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
    /// The best scales found, and the codes under them.
    fn best_scales, best_scales_on(
        superblock: Superblock<'_>,
        levels: AnyLevels,
        codes: &mut [u8],
    ) -> Scales {
        match levels {
            AnyLevels::Integers(levels) => {
                let scales = superblock.search(levels);
                superblock.codes(&scales, levels, codes);
                scales
            }
            AnyLevels::Table(levels) => {
                let scales = superblock.search(levels);
                superblock.codes(&scales, levels, codes);
                scales
            }
        }
    }
}

/// What the squared error of each column counts in [`search`], `[columns]`; of mean 1 in every superblock.
///
/// Importance below a thousandth of its superblock's mean counts as that, and importance that is not finite as the
/// mean; a superblock without any counts all columns alike.
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

/// Raises what is below the floor, then makes the mean 1.
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

/// The power of two by which division makes the largest weight about 1; `None` when all are zero.
fn unit(row: &[f32]) -> Option<f32> {
    let largest = row.iter().fold(0.0, |largest: f32, w| w.abs().max(largest));
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    let exponent = exponent.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT);
    (largest > 0.0).then(|| f32::from_bits(((exponent + 127) as u32) << 23))
}

/// Puts the scales of superblock `s` into the row.
fn store(scales: &Scales, unit: f32, s: usize, codec: &Codec, coded: &mut Coded) {
    let groups = codec.superblock / codec.group;
    coded.d[s] = codec.float.nearest(scales.d * unit);
    coded.dmin[s] = if codec.offsets == (0..=0) { 0.0 } else { codec.float.nearest(scales.dmin * unit) };
    coded.scales[s * groups..][..groups].copy_from_slice(&scales.scales[..groups]);
    coded.offsets[s * groups..][..groups].copy_from_slice(&scales.offsets[..groups]);
}

/// Takes ggml's superblocks where their weighted error is less.
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
        // Not when theirs is NaN: a scale past the range of half precision.
        if ggml < ours {
            take(codec, &theirs, s, coded);
        }
    }
}

/// `Σ a (ŵ - w)²` of every superblock.
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

/// Copies superblock `s` of `from`.
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
                let superblock = Superblock { codec, x: &x, weights: &weights, unit: 0.125 };
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
