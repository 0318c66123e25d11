//! Matrix products on slices, single-threaded: the caller splits the work.
//!
//! The forward and backward passes, the Hessians and the feedback of errors call these functions. Every element of a
//! result is one chain of fused multiply-adds over the inputs in their order, in f32. So it depends neither on the
//! number of rows and columns, nor on the way in which the caller cuts rows, columns or inputs, nor on the
//! instruction set.
//!
//! All products go through one micro-kernel (`tile.rs`), for which blocks of the factors are copied into tiles and
//! panels (`product.rs`); the copies cost 1 to 15 %. With AVX-512 the products reach 90 % of the peak of f32, about
//! 105 of 117 GFLOP/s on one core, where the `gemm` crate, which they replaced, gave 83 to 96 and other bits on other
//! machines. `docs/measurements.md` has the speeds by shape.

mod blocked;
mod gemm;
mod packed;
mod packed_bf16;
mod tile;
mod tile_bf16;
mod view;

pub(crate) use gemm::gemm_on;
pub use gemm::{gemm, mirror, syrk};
pub use packed::{PackedWeights, linear_packed, pack};
pub use packed_bf16::{PackedBf16, linear_packed_bf16, pack_bf16};
pub(crate) use tile::tile_on;
pub use view::{View, ViewMut};

/// The number of columns of one panel of the right factor: two vectors of AVX-512.
pub const PANEL: usize = 32;

#[cfg(test)]
mod tests {
    /// Returns numbers in -1..1 whose sums are not exact.
    pub(super) fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i + seed) * 7919 % 20011) as f32 / 10006.0 - 1.0).collect()
    }

    pub(super) fn bits(y: &[f32]) -> Vec<u32> {
        y.iter().map(|y| y.to_bits()).collect()
    }
}
