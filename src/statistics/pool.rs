//! Blending of the statistics of experts that few tokens reach with those of their layer.
//!
//! ```text
//! (n * own + k * layer) / (n + k)     k = max(0, enough - n) / 8     n: the expert's tokens
//! ```
//!
//! An expert without tokens has its layer's statistics, one with `enough` of them only its own, and in between the change
//! is continuous. `enough` is 4 tokens per column for a Hessian, below which feedback fits noise: so the layer counts as
//! up to half a token per column. Means and held-out losses fit nothing; 64 tokens are enough for them, whatever the
//! number of columns.
//!
//! The input of `gate` and `up` is the same stream for all experts: there the layer's Hessian is a good guess. Columns of
//! `down` are the expert's own neurons, which are unrelated to the neurons of other experts: there only the mean square
//! is shared.

use std::borrow::Cow;

use kquant_formats::imatrix::{Entry, Imatrix};

use crate::encode::feedback::Hessian;
use crate::tensor::TensorName;

/// Number of tokens per column with which a Hessian needs no blending.
const PER_COLUMN: u64 = 4;
/// Number of tokens with which means and losses need no blending.
const FOR_MEANS: f64 = 64.0;
/// Part of the missing tokens that the layer's statistics stand for. The value is chosen, not derived.
const MADE_UP: f64 = 1.0 / 8.0;

/// The statistics that the experts of a layer share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Common {
    /// The experts have the same input.
    Input,
    /// The experts' inputs have the same mean square.
    Scale,
}

impl Common {
    /// Returns what the matrices of the tensor `name` share; `None` if they are not experts: every token passes through
    /// every head.
    pub(crate) fn of(name: &str) -> Option<Self> {
        TensorName(name)
            .is_of_experts()
            .then(|| if name.contains("ffn_down") { Self::Scale } else { Self::Input })
    }
}

/// Returns the number of tokens that the layer counts for where a matrix has `tokens` of the `enough` that it needs.
fn layer_tokens(tokens: f64, enough: f64) -> f64 {
    (enough - tokens).max(0.0) * MADE_UP
}

/// The use of a Hessian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Feedback is fitted with the Hessian.
    Fit,
    /// The results of feedback are compared by the Hessian.
    Judge,
}

impl Use {
    /// Returns the number of tokens that a matrix of `columns` columns needs.
    fn enough(self, columns: usize) -> f64 {
        match self {
            Self::Fit => (PER_COLUMN * columns as u64) as f64,
            Self::Judge => FOR_MEANS,
        }
    }

    /// Returns true if a matrix of `columns` columns that `tokens` tokens reached is to be blended with its layer.
    pub(crate) fn needs_layer(self, columns: usize, tokens: u64) -> bool {
        (tokens as f64) < self.enough(columns)
    }
}

/// A Hessian, and the share of it that comes from the layer, 0 to 1.
pub(crate) struct Pooled {
    pub(crate) hessian: Hessian,
    pub(crate) layer: f64,
}

/// Blends `own` with its `layer`'s Hessian. The layer counts for the tokens that it stands for, not for all of its
/// tokens, because those of other experts have another distribution.
pub(crate) fn pool(own: Option<Hessian>, layer: &Hessian, to: Use) -> Pooled {
    let Some(mut own) = own else {
        let tokens = layer_tokens(0.0, to.enough(layer.columns)) as u64;
        return Pooled { hessian: Hessian { tokens, ..layer.clone() }, layer: 1.0 };
    };
    let tokens = own.tokens as f64;
    let extra = layer_tokens(tokens, to.enough(own.columns));
    let share = extra / (tokens + extra);
    if share > 0.0 {
        for (own, layer) in own.mean.iter_mut().zip(&layer.mean) {
            *own = ((1.0 - share) * f64::from(*own) + share * f64::from(*layer)) as f32;
        }
        own.tokens += extra as u64;
    }
    Pooled { hessian: own, layer: share }
}

/// Returns the Hessian of independent columns with the mean square `square`, over `tokens` rows of `columns` columns.
pub(crate) fn of_mean_square(square: f64, columns: usize, tokens: u64) -> Hessian {
    let mut mean = vec![0.0; columns * columns];
    mean.iter_mut().step_by(columns + 1).for_each(|x| *x = square as f32);
    Hessian { columns, mean, tokens }
}

/// Returns `matrix` with the importance of experts blended with their layer's; `matrix` itself if no expert needs it.
pub(crate) fn pool_importance(matrix: &Imatrix) -> Cow<'_, Imatrix> {
    let mut pooled = Cow::Borrowed(matrix);
    for (name, entry) in &matrix.entries {
        let few = |&n: &f32| f64::from(n) < FOR_MEANS;
        let Some(common) = Common::of(name).filter(|_| entry.matrices > 1 && entry.counts.iter().any(few))
        else {
            continue;
        };
        if let Some(entry) = pool_entry(entry, common) {
            pooled.to_mut().entries.insert(name.clone(), entry);
        }
    }
    pooled
}

/// Returns the blended entry; `None` if no token came at all.
fn pool_entry(entry: &Entry, common: Common) -> Option<Entry> {
    let columns = entry.columns;
    let tokens: f64 = entry.counts.iter().map(|&n| f64::from(n)).sum();
    if tokens == 0.0 {
        return None;
    }
    let mut layer = vec![0.0f64; columns];
    for sums in entry.sums.chunks_exact(columns) {
        layer.iter_mut().zip(sums).for_each(|(layer, &sum)| *layer += f64::from(sum) / tokens);
    }
    if common == Common::Scale {
        let mean = layer.iter().sum::<f64>() / columns as f64;
        layer.fill(mean);
    }
    let mut pooled = entry.clone();
    for (sums, count) in pooled.sums.chunks_exact_mut(columns).zip(&mut pooled.counts) {
        let extra = layer_tokens(f64::from(*count), FOR_MEANS);
        for (sum, layer) in sums.iter_mut().zip(&layer) {
            *sum = (f64::from(*sum) + extra * layer) as f32;
        }
        *count = (f64::from(*count) + extra) as f32;
    }
    Some(pooled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hessian(values: [f32; 4], tokens: u64) -> Hessian {
        Hessian { columns: 2, mean: values.to_vec(), tokens }
    }

    #[test]
    fn the_fewer_tokens_the_more_of_the_layer() {
        let (own, layer) = ([4.0, 1.0, 1.0, 2.0], hessian([1.0, 0.0, 0.0, 1.0], 100));
        let none = pool(None, &layer, Use::Fit);
        assert_eq!((none.hessian.mean, none.hessian.tokens, none.layer), (layer.mean.clone(), 1, 1.0));
        let all = pool(Some(hessian(own, 8)), &layer, Use::Fit);
        assert_eq!((all.hessian, all.layer), (hessian(own, 8), 0.0));
        // As 7 tokens are missing, the layer counts for 7/8 of one.
        let one = pool(Some(hessian(own, 1)), &layer, Use::Fit);
        assert_eq!(one.layer, 0.875 / 1.875);
        assert_eq!(one.hessian.mean[1], (1.0 / 1.875) as f32);
        assert_eq!(one.hessian.tokens, 1, "one and 0.875");
        assert!(Use::Fit.needs_layer(2, 7) && !Use::Fit.needs_layer(2, 8));
        assert!(Use::Judge.needs_layer(2, 63) && !Use::Judge.needs_layer(2, 64));
    }

    #[test]
    fn importance_of_unused_experts_is_their_layer_s() {
        let entry = Entry {
            columns: 2,
            matrices: 3,
            sums: vec![100.0, 300.0, 0.0, 0.0, 20.0, 60.0],
            counts: vec![100.0, 0.0, 20.0],
        };
        let of = |name: &str, entry: &Entry| {
            let entries = [(name.to_owned(), entry.clone())].into();
            let matrix = Imatrix { entries, datasets: Vec::new(), chunk_count: None, chunk_size: None };
            pool_importance(&matrix).entries[name].clone()
        };
        let up = of("blk.0.ffn_up_exps.weight", &entry);
        assert_eq!(up.importance(), [1.0, 3.0, 1.0, 3.0, 1.0, 3.0]);
        assert_eq!(up.counts, [100.0, 8.0, 25.5]);
        let down = of("blk.0.ffn_down_exps.weight", &entry).importance();
        assert_eq!(down[..4], [1.0, 3.0, 2.0, 2.0], "other experts' columns are other neurons");
        assert!(down[4] > 1.0 && down[4] < down[5] && down[5] < 3.0);
        assert_eq!(of("blk.0.attn_k_b.weight", &entry), entry, "heads are no experts");
        let unseen = Entry { sums: vec![0.0; 6], counts: vec![0.0; 3], ..entry };
        assert_eq!(of("blk.0.ffn_up_exps.weight", &unseen), unseen);
    }
}
