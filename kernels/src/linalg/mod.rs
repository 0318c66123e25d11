//! Matrix products on slices, single-threaded: the caller splits the work, always at the same rows, so that results do
//! not depend on how many threads there are.

mod gemm;
mod packed;
mod view;

pub use gemm::gemm;
pub use packed::{PANEL, PackedWeights, linear_packed, pack};
pub use view::{View, ViewMut};
