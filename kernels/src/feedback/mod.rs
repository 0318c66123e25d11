//! Error feedback: the inner loops of the encoder that minimises `e H e'`, on 32 rows side by side.
//!
//! A column of 32 rows is one [`Lanes`]: what is serial over columns is wide over rows, and no row sees another. Chains
//! of fused multiply-adds run over the columns in their order, so every instruction set gives the same bits.
//!
//! Matrices that rows are multiplied by come as [`Tiles`].

mod coding;
mod descend;
mod factor;
mod fit;
mod level;
mod nearest;
mod product;
mod round;
mod serial;
#[cfg(test)]
mod tests;
mod tiles;
mod vectors;

pub use coding::{Coding, Grid};
pub use descend::{Descent, descend};
pub use factor::{factor_block, subtract_outer};
pub use fit::{Superblock, group_sums, refit, rescale, values};
pub use product::dot;
pub use round::{Rounded, round};
pub use serial::substitute;
pub use tiles::Tiles;
pub use vectors::{descend_vectors, round_vectors};

/// Rows side by side.
pub const LANES: usize = 32;

/// One column of [`LANES`] rows.
pub type Lanes = [f32; LANES];

/// Columns that the serial loops take at a time; the lengths they get are multiples of it.
pub const STEP: usize = 4;
