//! Gradients of the slots while a layer is walked backwards.

use kquant_kernels::math;
use rayon::prelude::*;

use crate::graph::{SLOTS, Slot};

/// Values added by one task.
const STEP: usize = 1 << 14;

/// The gradient of what each slot holds at the present place, `[tokens][width]`; none where nothing that follows reads it.
#[derive(Debug, Default)]
pub(in crate::model) struct Gradients {
    slots: [Option<Vec<f32>>; SLOTS],
}

impl Gradients {
    /// Takes the gradient of `slot` and clears it, when the walk passes the operation that wrote it: before, the slot held
    /// something else.
    pub(in crate::model) fn take(&mut self, slot: Slot) -> Option<Vec<f32>> {
        self.slots[slot as usize].take()
    }

    /// Adds to the gradient of `slot`, when the walk passes an operation that read it.
    pub(in crate::model) fn add(&mut self, slot: Slot, gradient: Vec<f32>) {
        match &mut self.slots[slot as usize] {
            none @ None => *none = Some(gradient),
            Some(sum) => add(sum, &gradient),
        }
    }
}

/// `sum += x`, in parallel.
pub(super) fn add(sum: &mut [f32], x: &[f32]) {
    sum.par_chunks_mut(STEP).zip(x.par_chunks(STEP)).for_each(|(sum, x)| math::add(sum, x));
}

/// `x *= factor`, in parallel.
pub(in crate::model) fn scale(x: &mut [f32], factor: f32) {
    if factor != 1.0 {
        x.par_chunks_mut(STEP).for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
    }
}

/// A copy, made in parallel.
pub(in crate::model) fn copied(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(STEP).zip(x.par_chunks(STEP)).for_each(|(out, x)| out.copy_from_slice(x));
    out
}
