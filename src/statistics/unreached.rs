//! Experts that no token of a text reached, so that there are no statistics of their inputs.

use std::collections::BTreeMap;

use kquant_formats::imatrix::{Entry, Imatrix};
use serde::{Deserialize, Serialize};

use super::pool::Common;
use crate::statistics::describe::split_name;

/// Number of layers that are named one by one.
const NAMED: usize = 8;

/// The experts that no token reached, by layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    layers: BTreeMap<u32, OfLayer>,
}

/// The unreached experts of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct OfLayer {
    unreached: u64,
    experts: u64,
}

impl Unreached {
    /// Returns the unreached experts of an importance matrix; `experts` gives the number of experts of a tensor, which is
    /// missing in the matrix's legacy form.
    pub fn of(matrix: &Imatrix, experts: impl Fn(&str) -> Option<u64>) -> Self {
        let mut all = Self::default();
        for (name, entry) in &matrix.entries {
            let experts = experts(name).unwrap_or(entry.matrices as u64).max(1);
            if let (Some(_), Some((layer, _))) = (Common::of(name), split_name(name)) {
                all.add(layer, count(entry, experts as usize), experts);
            }
        }
        all
    }

    /// Adds that no token reached `unreached` of the `experts` of a layer. The tensors of a layer all give the same
    /// numbers.
    pub(crate) fn add(&mut self, layer: u32, unreached: u64, experts: u64) {
        if unreached > 0 && experts > 1 {
            let of_layer = self.layers.entry(layer).or_insert(OfLayer { unreached, experts });
            of_layer.unreached = of_layer.unreached.max(unreached);
        }
    }

    /// Returns one line that gives the number of unreached experts and their layers; `None` if every expert was reached.
    pub fn told(&self) -> Option<String> {
        let all: u64 = self.layers.values().map(|of| of.unreached).sum();
        let of =
            |(layer, of): (&u32, &OfLayer)| format!("{} of {} in layer {layer}", of.unreached, of.experts);
        let named: Vec<String> = self.layers.iter().take(NAMED).map(of).collect();
        let more = match self.layers.len() - named.len() {
            0 => String::new(),
            more => format!(", others in {more} more layers"),
        };
        let experts = if all == 1 { "expert" } else { "experts" };
        (all > 0).then(|| {
            format!(
                "no token of the text reached {all} {experts}, {}{more}: nothing is known of what enters them. More text, or text of \
                 more kinds, reaches more",
                named.join(", ")
            )
        })
    }
}

/// Returns how many of the `experts` of an entry no token reached.
fn count(entry: &Entry, experts: usize) -> u64 {
    let unreached = match entry.counts.len() == experts {
        true => entry.counts.iter().filter(|&&tokens| tokens == 0.0).count(),
        // The legacy form has one count for all experts, and a mean square of 1 for each expert that no token reached.
        false => {
            let columns = (entry.sums.len() / experts).max(1);
            let one = entry.counts.first().copied().unwrap_or_default();
            let all = |sums: &[f32], value: f32| sums.iter().all(|&sum| sum == value);
            entry.sums.chunks(columns).filter(|sums| all(sums, 0.0) || all(sums, one)).count()
        }
    };
    unreached as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(entries: &[(&str, Entry)]) -> Imatrix {
        let entries = entries.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
        Imatrix { entries, datasets: Vec::new(), chunk_count: None, chunk_size: None }
    }

    #[test]
    fn experts_without_tokens_are_counted_once_per_layer() {
        let some = Entry {
            columns: 1,
            matrices: 4,
            sums: vec![1.0, 0.0, 2.0, 0.0],
            counts: vec![3.0, 0.0, 2.0, 0.0],
        };
        let sums = vec![1.0, 5.0, 2.0, 0.0];
        let legacy = Entry { columns: 4, matrices: 1, counts: vec![5.0], sums };
        let all = Entry { counts: vec![1.0; 4], ..some.clone() };
        let matrix = matrix(&[
            ("blk.0.ffn_up_exps.weight", some.clone()),
            ("blk.0.ffn_down_exps.weight", some.clone()),
            ("blk.1.ffn_up_exps.weight", all),
            ("blk.2.ffn_up_exps.weight", legacy),
            ("blk.3.attn_k_b.weight", some),
        ]);
        let told = Unreached::of(&matrix, |_| Some(4)).told().unwrap();
        let expected = "no token of the text reached 4 experts, 2 of 4 in layer 0, 2 of 4 in layer 2: ";
        assert!(told.starts_with(expected), "{told}");
    }

    #[test]
    fn many_layers_are_not_all_named() {
        let mut unreached = Unreached::default();
        assert_eq!(unreached.told(), None);
        (0..20).for_each(|layer| unreached.add(layer, 1, 64));
        let told = unreached.told().unwrap();
        assert!(told.contains("reached 20 experts, 1 of 64 in layer 0, "), "{told}");
        assert!(told.contains("1 of 64 in layer 7, others in 12 more layers: "), "{told}");
    }
}
