//! The precisions of linear maps' products, and weights packed for them.

use kquant_kernels::linalg::{
    PANEL, PackedBf16, PackedWeights, linear_packed, linear_packed_bf16, pack, pack_bf16,
};
use rayon::prelude::*;

use super::ModelError;

/// Number of weights that one task decodes.
pub(super) const DECODE_STEP: usize = 1 << 18;

/// The precision in which products of linear maps are computed; sums are in f32 in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// Activations and weights are f32.
    #[default]
    F32,
    /// Activations and weights are rounded to bf16, which takes half of the memory and is about twice as fast where the
    /// processor has the instruction.
    Bf16,
}

impl Products {
    /// Returns the bytes of a packed weight.
    pub(super) fn weight_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// The packed weights of a linear map, `[outputs][inputs]`.
#[derive(Debug)]
pub(super) enum Packed {
    F32(PackedWeights),
    Bf16(PackedBf16),
}

impl Packed {
    /// Reads and packs `outputs` rows of `inputs` weights in parallel; `read` fills a buffer with rows, from the given row
    /// on.
    pub(super) fn read(
        products: Products,
        (inputs, outputs): (usize, usize),
        read: impl Fn(u64, &mut [f32]) -> Result<(), ModelError> + Sync,
    ) -> Result<Self, ModelError> {
        Ok(match products {
            Products::F32 => {
                let mut packed = PackedWeights::zeroed(inputs, outputs);
                fill(packed.panels_mut(), inputs, (inputs, outputs), read, pack)?;
                Self::F32(packed)
            }
            Products::Bf16 => {
                let mut packed = PackedBf16::zeroed(inputs, outputs);
                fill(packed.panels_mut(), inputs.div_ceil(2), (inputs, outputs), read, pack_bf16)?;
                Self::Bf16(packed)
            }
        })
    }

    /// Returns the length of an input row.
    pub(super) fn inputs(&self) -> usize {
        match self {
            Self::F32(weights) => weights.inputs(),
            Self::Bf16(weights) => weights.inputs(),
        }
    }

    /// Returns the length of an output row.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::F32(weights) => weights.outputs(),
            Self::Bf16(weights) => weights.outputs(),
        }
    }

    /// Returns the transposed weights for the backward pass, which multiply `x` `[rows][outputs]` by W instead of by W'.
    pub(super) fn transposed(&self) -> Self {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        match self {
            Self::F32(weights) => {
                let mut out = PackedWeights::zeroed(outputs, inputs);
                let panels = out.panels_mut().par_chunks_mut(outputs.max(1)).enumerate();
                panels.for_each(|(number, panel)| weights.transpose_panel(number, panel));
                Self::F32(out)
            }
            Self::Bf16(weights) => {
                let mut out = PackedBf16::zeroed(outputs, inputs);
                let panels = out.panels_mut().par_chunks_mut(outputs.div_ceil(2).max(1)).enumerate();
                panels.for_each(|(number, panel)| weights.transpose_panel(number, panel));
                Self::Bf16(out)
            }
        }
    }

    /// Computes `y = x · W'` with `x` `[rows][inputs]` and `y` `[rows][outputs]`.
    pub(super) fn apply(&self, y: &mut [f32], x: &[f32]) {
        match self {
            Self::F32(weights) => linear_packed(y, x, weights),
            Self::Bf16(weights) => linear_packed_bf16(y, x, weights),
        }
    }
}

/// Fills panels of `height` columns each with `outputs` rows of `inputs` weights, several panels per task.
fn fill<T: Send>(
    panels: &mut [[T; PANEL]],
    height: usize,
    (inputs, outputs): (usize, usize),
    read: impl Fn(u64, &mut [f32]) -> Result<(), ModelError> + Sync,
    pack: fn(&mut [[T; PANEL]], &[f32], usize),
) -> Result<(), ModelError> {
    let at_once = (DECODE_STEP / (PANEL * inputs)).max(1);
    panels.par_chunks_mut(at_once * height).enumerate().try_for_each(|(i, panels)| {
        let first = i * at_once * PANEL;
        let mut rows = vec![0.0; (at_once * PANEL).min(outputs - first) * inputs];
        read(first as u64, &mut rows)?;
        pack(panels, &rows, inputs);
        Ok(())
    })
}
