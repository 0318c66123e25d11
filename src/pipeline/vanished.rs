//! Tensors that become all zeros although their weights are not: these are too small for the type.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kquant_kernels::block::BlockType;

use crate::encode::{is_all_zero, remedy};
use crate::plan::PlannedTensor;

/// What was seen so far of a tensor's rows, in any order.
#[derive(Debug, Default)]
pub(super) struct Vanished {
    /// Whether something other than zero was encoded.
    shows: AtomicBool,
    /// The largest magnitude of a weight that became zero, as the bits of an f32: these have the same order.
    largest: AtomicU32,
}

impl Vanished {
    /// Whether `bytes`, rows encoded as `block`, and all before them are zeros. Costs nothing once that is decided.
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

    /// Takes note of weights that became zeros.
    pub(super) fn add(&self, weights: &[f32]) {
        let largest = weights.iter().map(|w| w.abs().to_bits()).max().unwrap_or(0);
        self.largest.fetch_max(largest, Ordering::Relaxed);
    }

    /// What to tell of `tensor` when all of its rows were seen.
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
