//! Statistics of an importance matrix for a reader.

use std::collections::{BTreeMap, BTreeSet};

use kquant_formats::imatrix::{Entry, Imatrix};
use serde::Serialize;

use crate::encode::zero_groups;
use crate::tensor::TensorName;

/// Fraction of the columns that [`EntryStatistics::top_share`] covers.
const TOP: f64 = 0.01;

/// The statistics of an importance matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MatrixStatistics {
    /// Names of the texts, as the file gives them.
    pub datasets: Vec<String>,
    /// Number of chunks of text seen, if known.
    pub chunk_count: Option<u32>,
    /// Number of tokens per chunk, if known.
    pub chunk_size: Option<u32>,
    /// Entries that runs of layers have, in the order of layers.
    pub coverage: Vec<Coverage>,
    /// Names of entries that belong to no layer.
    pub outside_layers: Vec<String>,
    /// Layers by their share of all importance, the largest first.
    pub layers: Vec<LayerShare>,
    /// Statistics of all entries: those outside layers first, then by layer and by name.
    pub entries: Vec<EntryStatistics>,
}

/// A run of neighbouring layers that have the same entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Number of the first layer of the run.
    pub first: u32,
    /// Number of the last layer of the run.
    pub last: u32,
    /// Kinds of the entries of each layer, such as `attn_q` and `ffn_down`.
    pub tensors: BTreeSet<String>,
}

/// The importance of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerShare {
    /// Number of the layer.
    pub layer: u32,
    /// Sum of the totals of the layer's entries.
    pub total: f64,
    /// `total` as a fraction of the total of all layers.
    pub share: f64,
}

/// The statistics of one entry. Values are mean squares of activations, over the matrices that at least one token
/// reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryStatistics {
    /// GGUF name of the weight.
    pub name: String,
    /// Number of the layer, if the name is of the form `blk.N.*`.
    pub layer: Option<u32>,
    /// Number of columns of a matrix.
    pub columns: usize,
    /// Number of matrices (experts).
    pub matrices: usize,
    /// Number of matrices that no token was routed to.
    pub unused: usize,
    /// Number of rows of activations seen by all matrices together; number of chunks of text in a legacy file.
    pub count: u64,
    /// Sum of the values.
    pub total: f64,
    /// Mean of the values.
    pub mean: f64,
    /// Largest value.
    pub max: f64,
    /// Number of values that are zero.
    pub zero_columns: usize,
    /// Number of groups of 16 values, the finest that share a scale, that are zero throughout.
    pub zero_groups: usize,
    /// Entropy of the values' distribution over the columns, as a fraction of the largest possible one: 1 if all are
    /// equal.
    pub entropy: f64,
    /// Fraction of the total in the hundredth of the columns with the largest values.
    pub top_share: f64,
}

impl MatrixStatistics {
    /// Computes the statistics of `matrix`.
    pub fn of(matrix: &Imatrix) -> Self {
        let mut entries: Vec<_> =
            matrix.entries.iter().map(|(name, e)| EntryStatistics::of(name, e)).collect();
        entries.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
        Self {
            datasets: matrix.datasets.clone(),
            chunk_count: matrix.chunk_count,
            chunk_size: matrix.chunk_size,
            coverage: coverage(&entries),
            outside_layers: entries.iter().filter(|e| e.layer.is_none()).map(|e| e.name.clone()).collect(),
            layers: layer_shares(&entries),
            entries,
        }
    }
}

/// Returns the layer and the kind in a name like `blk.0.attn_q.weight`.
pub(super) fn split_name(name: &str) -> Option<(u32, &str)> {
    TensorName(name).layer().zip(TensorName(name).kind())
}

fn coverage(entries: &[EntryStatistics]) -> Vec<Coverage> {
    let mut layers: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (layer, tensor) in entries.iter().filter_map(|e| split_name(&e.name)) {
        layers.entry(layer).or_default().insert(tensor.to_owned());
    }
    let mut runs: Vec<Coverage> = Vec::new();
    for (layer, tensors) in layers {
        match runs.last_mut() {
            Some(run) if run.last.checked_add(1) == Some(layer) && run.tensors == tensors => run.last = layer,
            _ => runs.push(Coverage { first: layer, last: layer, tensors }),
        }
    }
    runs
}

fn layer_shares(entries: &[EntryStatistics]) -> Vec<LayerShare> {
    let mut totals: BTreeMap<u32, f64> = BTreeMap::new();
    for entry in entries {
        if let Some(layer) = entry.layer {
            *totals.entry(layer).or_default() += entry.total;
        }
    }
    let all: f64 = totals.values().sum();
    let mut shares: Vec<_> = totals
        .into_iter()
        .map(|(layer, total)| LayerShare { layer, total, share: fraction(total, all) })
        .collect();
    shares.sort_by(|a, b| b.total.total_cmp(&a.total).then(a.layer.cmp(&b.layer)));
    shares
}

impl EntryStatistics {
    fn of(name: &str, entry: &Entry) -> Self {
        let importance = entry.importance();
        let matrices = importance.chunks(entry.columns.max(1)).zip(&entry.counts);
        let used: Vec<&[f32]> = matrices.filter(|(_, n)| **n > 0.0).map(|(values, _)| values).collect();
        let mut values: Vec<f64> = used.iter().copied().flatten().map(|&v| f64::from(v)).collect();
        values.sort_unstable_by(|a, b| b.total_cmp(a));
        // The sum starts from +0, because `sum` gives -0 for no values.
        let total = values.iter().fold(0.0, |sum, v| sum + v);
        let top = (values.len() as f64 * TOP).ceil() as usize;
        Self {
            name: name.to_owned(),
            layer: split_name(name).map(|(layer, _)| layer),
            columns: entry.columns,
            matrices: entry.matrices,
            unused: entry.matrices - used.len(),
            count: entry.counts.iter().map(|&n| n as u64).sum(),
            total,
            mean: fraction(total, values.len() as f64),
            max: values.first().copied().unwrap_or_default(),
            zero_columns: values.iter().filter(|&&v| v == 0.0).count(),
            zero_groups: used.iter().map(|values| zero_groups(values)).sum(),
            entropy: entropy(&values, total),
            top_share: fraction(values.iter().take(top).sum(), total),
        }
    }
}

/// Returns the entropy of `values` over its maximum, the logarithm of their number.
fn entropy(values: &[f64], total: f64) -> f64 {
    let shares = values.iter().map(|v| v / total).filter(|&p| p > 0.0);
    let entropy: f64 = shares.map(|p| -p * p.log2()).sum();
    fraction(entropy, (values.len() as f64).log2())
}

/// Returns `part / whole`, or 0 if `whole` is 0.
fn fraction(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(matrices: usize, sums: &[f32], counts: &[f32]) -> Entry {
        Entry { columns: sums.len() / matrices, matrices, sums: sums.to_vec(), counts: counts.to_vec() }
    }

    fn matrix(entries: &[(&str, Entry)]) -> Imatrix {
        let entries = entries.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
        Imatrix { entries, datasets: vec!["text".into()], chunk_count: None, chunk_size: None }
    }

    #[test]
    fn values_are_means_over_what_was_used() {
        let mut sums = vec![0.0; 96];
        sums[..32].fill(6.0);
        sums[64] = 8.0;
        let of =
            |entry| MatrixStatistics::of(&matrix(&[("blk.3.ffn_up_exps.weight", entry)])).entries.remove(0);
        let found = of(entry(3, &sums, &[2.0, 0.0, 4.0]));
        assert_eq!((found.layer, found.columns, found.matrices, found.unused), (Some(3), 32, 3, 1));
        assert_eq!((found.count, found.total, found.max), (6, 98.0, 3.0));
        assert_eq!(found.mean, 98.0 / 64.0);
        assert_eq!((found.zero_columns, found.zero_groups), (31, 1));
        assert_eq!(found.top_share, 3.0 / 98.0);
        assert!((0.8..0.9).contains(&found.entropy), "{}", found.entropy);

        let even = of(entry(1, &[2.0; 64], &[1.0]));
        assert!((even.entropy - 1.0).abs() < 1e-12 && even.top_share == 1.0 / 64.0);
        let single = of(entry(1, &[&[5.0][..], &[0.0; 9]].concat(), &[1.0]));
        assert_eq!((single.entropy, single.top_share, single.zero_groups), (0.0, 1.0, 0));
        let unused = of(entry(2, &[0.0; 8], &[0.0; 2]));
        assert_eq!(
            (unused.unused, unused.total, unused.mean, unused.entropy, unused.top_share),
            (2, 0.0, 0.0, 0.0, 0.0)
        );
        assert!(unused.total.is_sign_positive(), "printed as it is");
    }

    #[test]
    fn layers_in_order_and_by_share() {
        let one = |sum| entry(1, &[sum], &[1.0]);
        let statistics = MatrixStatistics::of(&matrix(&[
            ("blk.10.attn_q.weight", one(1.0)),
            ("blk.2.attn_q.weight", one(5.0)),
            ("blk.3.attn_q.weight", one(2.0)),
            ("blk.3.ffn_up.weight", one(3.0)),
            ("blk.9.attn_q.weight", one(1.0)),
            ("blk.x.attn_q.weight", one(9.0)),
            ("output.weight", one(70.0)),
        ]));
        let names: Vec<_> = statistics.entries.iter().map(|e| (e.layer, &e.name[..])).collect();
        assert_eq!(names[0], (None, "blk.x.attn_q.weight"));
        assert_eq!(names[2..4], [(Some(2), "blk.2.attn_q.weight"), (Some(3), "blk.3.attn_q.weight")]);
        assert_eq!(statistics.outside_layers, ["blk.x.attn_q.weight", "output.weight"]);
        let run = |first, last, tensors: &[&str]| Coverage {
            first,
            last,
            tensors: tensors.iter().map(|t| (*t).to_owned()).collect(),
        };
        let expected = [run(2, 2, &["attn_q"]), run(3, 3, &["attn_q", "ffn_up"]), run(9, 10, &["attn_q"])];
        assert_eq!(statistics.coverage, expected);
        let shares: Vec<_> = statistics.layers.iter().map(|l| (l.layer, l.total)).collect();
        assert_eq!(shares, [(2, 5.0), (3, 5.0), (9, 1.0), (10, 1.0)]);
        assert_eq!(statistics.layers[0].share, 5.0 / 12.0);
    }
}
