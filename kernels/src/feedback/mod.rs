//! The inner loops of the encoders with error feedback, which minimise `e H e'` for the errors e of a row and the
//! Hessian H of its inputs, on 32 rows side by side. `kquant::encode` has the loops around them.
//!
//! | step | function | source |
//! |---|---|---|
//! | factor `H = U D U'` | [`factor_block`], [`subtract_outer`] | |
//! | round columns one after the other, each making up for the errors of those before | [`round()`], [`round_vectors`] | LDLQ of QuIP (arXiv 2307.13304), which rounds as GPTQ (arXiv 2210.17323) does |
//! | move codes one at a time to where the loss is least | [`descend()`], [`descend_vectors`] | coordinate descent |
//! | fit `d`, `dmin`, scales and offsets to the codes | [`refit()`], [`rescale`] | least squares |
//!
//! A column of 32 rows is one [`Lanes`]: loops that are serial over columns are wide over rows, and no row sees
//! another. Chains of fused multiply-adds run over the columns in their order, so that every instruction set gives
//! the same bits. Matrices that rows are multiplied by come as [`Tiles`].

mod coding;
mod descend;
mod dot;
mod factor;
mod level;
mod nearest;
mod refit;
mod round;
mod serial;
#[cfg(test)]
mod tests;
mod tiles;
mod units;

pub use coding::{Coding, Grid};
pub use descend::{Descent, descend};
pub use dot::dot;
pub use factor::{factor_block, subtract_outer};
pub use refit::{Superblock, group_sums, refit, rescale, values};
pub use round::{Rounded, round};
pub use serial::substitute;
pub use tiles::Tiles;
pub use units::{descend_vectors, round_vectors};

/// The number of rows side by side.
pub const LANES: usize = 32;

/// One column of [`LANES`] rows.
pub type Lanes = [f32; LANES];

/// The number of columns that the serial loops take at a time; the lengths that they get are multiples of it.
pub const STEP: usize = 4;
