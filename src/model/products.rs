//! What the products of linear maps are computed in, and weights packed for it.

use kquant_kernels::linalg::{
    PANEL, PackedBf16, PackedWeights, linear_packed, linear_packed_bf16, pack, pack_bf16,
};
use rayon::prelude::*;

use super::ModelError;

/// Weights that one task decodes.
pub(super) const DECODE_STEP: usize = 1 << 18;

/// What the products of linear maps are computed in; sums are in f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// f32.
    #[default]
    F32,
    /// Activations and weights rounded to bf16: half of the memory, and about twice as fast where the processor has the
    /// instruction.
    Bf16,
}

impl Products {
    /// Bytes that a packed weight takes.
    pub(super) fn weight_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// The weights of a linear map.
#[derive(Debug)]
pub(super) enum Packed {
    F32(PackedWeights),
    Bf16(PackedBf16),
}

impl Packed {
    /// `outputs` rows of `inputs` weights, packed in parallel; `read` fills a buffer with rows from one on.
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

    /// Length of the rows that enter.
    pub(super) fn inputs(&self) -> usize {
        match self {
            Self::F32(weights) => weights.inputs(),
            Self::Bf16(weights) => weights.inputs(),
        }
    }

    /// Length of the rows that leave.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::F32(weights) => weights.outputs(),
            Self::Bf16(weights) => weights.outputs(),
        }
    }

    /// The same weights for the way back: `x` `[rows][outputs]` times W instead of its transpose.
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

    /// `y = x · W'`: `x` `[rows][inputs]`, `y` `[rows][outputs]`.
    pub(super) fn apply(&self, y: &mut [f32], x: &[f32]) {
        match self {
            Self::F32(weights) => linear_packed(y, x, weights),
            Self::Bf16(weights) => linear_packed_bf16(y, x, weights),
        }
    }
}

/// Fills panels of `height` columns each with `outputs` rows of `inputs` weights, some panels at a time.
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
