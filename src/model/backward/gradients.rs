//! Gradients of the slots while the operations of a layer are walked backwards.

use kquant_kernels::math;
use rayon::prelude::*;

use crate::graph::{SLOTS, Slot};

/// Number of values that one task adds.
const STEP: usize = 1 << 14;

/// The gradient of the content of each slot at the current operation, `[tokens][width]`; `None` where no later operation
/// reads it.
#[derive(Debug)]
pub(in crate::model) struct Gradients {
    slots: [Option<Vec<f32>>; SLOTS],
}

impl Default for Gradients {
    fn default() -> Self {
        Self { slots: [const { None }; SLOTS] }
    }
}

impl Gradients {
    /// Takes the gradient of `slot` and clears it, when the walk passes the operation that wrote the slot. Before that
    /// operation, the slot had another content.
    pub(in crate::model) fn take(&mut self, slot: Slot) -> Option<Vec<f32>> {
        self.slots[slot as usize].take()
    }

    /// Adds `gradient` to that of `slot`, when the walk passes an operation that read the slot.
    pub(in crate::model) fn add(&mut self, slot: Slot, gradient: Vec<f32>) {
        match &mut self.slots[slot as usize] {
            none @ None => *none = Some(gradient),
            Some(sum) => add(sum, &gradient),
        }
    }
}

/// Computes `sum += x` in parallel.
pub(super) fn add(sum: &mut [f32], x: &[f32]) {
    sum.par_chunks_mut(STEP).zip(x.par_chunks(STEP)).for_each(|(sum, x)| math::add(sum, x));
}

/// Computes `x *= factor` in parallel.
pub(in crate::model) fn scale(x: &mut [f32], factor: f32) {
    if factor != 1.0 {
        x.par_chunks_mut(STEP).for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
    }
}

/// Returns a copy of `x`, made in parallel.
pub(in crate::model) fn copied(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(STEP).zip(x.par_chunks(STEP)).for_each(|(out, x)| out.copy_from_slice(x));
    out
}
