//! Tensors that become all zeros because their weights, though not zero, are too small for the type.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kquant_kernels::block::BlockType;

use crate::encode::{is_all_zero, remedy};
use crate::plan::PlannedTensor;

/// Observations of a tensor's rows, which may come in any order.
#[derive(Debug, Default)]
pub(super) struct Vanished {
    /// True once something other than zero was encoded.
    shows: AtomicBool,
    /// Largest magnitude of a weight that became zero, as the bits of an f32, which have the same order.
    largest: AtomicU32,
}

impl Vanished {
    /// Returns whether `bytes`, which are rows encoded as `block`, and all rows before are zeros. Costs nothing once a row
    /// was not.
    pub(super) fn so_far(&self, block: &BlockType, bytes: &[u8]) -> bool {
        if self.shows.load(Ordering::Relaxed) {
            return false;
        }
        let zero = is_all_zero(block, bytes);
        if !zero {
            self.shows.store(true, Ordering::Relaxed);
        }
        zero
    }

    /// Records weights that became zeros.
    pub(super) fn add(&self, weights: &[f32]) {
        let largest = weights.iter().map(|w| w.abs().to_bits()).max().unwrap_or(0);
        self.largest.fetch_max(largest, Ordering::Relaxed);
    }

    /// Returns the warning about `tensor`, if there is one, after all of its rows were seen.
    pub(super) fn warning(&self, tensor: &PlannedTensor) -> Option<String> {
        let largest = f32::from_bits(self.largest.load(Ordering::Relaxed));
        let vanished = largest > 0.0 && !self.shows.load(Ordering::Relaxed);
        let name = &tensor.mapped.name;
        vanished.then(|| {
            format!(
                "tensor `{name}`: all of its weights, of magnitudes up to {largest:e}, became zero in {}. {}",
                tensor.block.name,
                remedy(name, largest)
            )
        })
    }
}
