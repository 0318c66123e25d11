//! Matrix products on slices, single-threaded: the caller splits the work.
//!
//! Every element of a result is one chain of fused multiply-adds over the inputs in their order, in f32. So it depends on
//! neither the number of rows and columns, nor how the caller cuts rows, columns or inputs, nor the instruction set. What
//! was tried: `NOTES.md`.

mod gemm;
mod packed;
mod packed_bf16;
mod product;
mod tile;
mod tile_bf16;
mod view;

pub(crate) use gemm::gemm_on;
pub use gemm::{gemm, mirror, syrk};
pub use packed::{PackedWeights, linear_packed, pack};
pub use packed_bf16::{PackedBf16, linear_packed_bf16, pack_bf16};
pub(crate) use tile::tile_on;
pub use view::{View, ViewMut};

/// Columns of one panel of the right factor.
pub const PANEL: usize = 32;

#[cfg(test)]
mod tests {
    /// Numbers in -1..1 whose sums round.
    pub(super) fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i + seed) * 7919 % 20011) as f32 / 10006.0 - 1.0).collect()
    }

    pub(super) fn bits(y: &[f32]) -> Vec<u32> {
        y.iter().map(|y| y.to_bits()).collect()
    }
}
