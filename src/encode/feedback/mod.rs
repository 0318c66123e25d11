//! Calibrated encoding: codes, scales and offsets that minimise `e H e'` row by row, with H the full Hessian of a
//! tensor's inputs.
//!
//! | file | what |
//! |---|---|
//! | `hessian` | the statistics of a tensor's inputs |
//! | `factored`, `factor` | the damped factors of a Hessian, `H' = U D U'`, and solutions of `x H' = y` |
//! | `options` | the amount of work |
//! | `run` | the encoder of a tensor's rows: starts, passes, rounds |
//! | `rounding` | sequential rounding with error feedback (LDLQ, arXiv 2307.13304) |
//! | `start` | the codes of the diagonal search, which rows start from |
//! | `both` | feedback over rows as well as columns, with the Fisher matrix of the outputs |
//! | `method` | all of it as a method of calibrated runs |
//! | `product` | matrix products on all threads |
//! | `sweep` | scales and codes improved block by block |
//! | `judge` | losses on the statistics that candidates are compared by |
//! | `tile` | rows side by side |
//!
//! A GGUF decoder does not depend on the order in which the encoder rounded: scales are fixed first, and columns are rounded in
//! order of falling activation.

use kquant_kernels::block::BlockType;
use kquant_kernels::codec::{Codec, UNIT, VectorCodec};

mod both;
mod factor;
mod factored;
mod hessian;
mod judge;
mod method;
mod options;
mod product;
mod rounding;
mod run;
mod start;
mod sweep;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_both;
mod tile;

pub use both::BothSides;
pub use factored::{Damping, Feedback, FeedbackError};
pub use hessian::Hessian;
pub use method::{FeedbackMethod, factored_fisher};
pub use options::{Options, Start};
pub use run::{Losses, encode};

/// Returns `e H e'` of each row e of `errors` `[rows][n]`, with H the `hessian` of n columns.
pub fn losses_of_rows(hessian: &Hessian, errors: &[f32]) -> Vec<f64> {
    judge::Judge::by(&hessian.mean).losses_of_rows(errors, hessian.columns)
}

/// Returns the codec of `block` if feedback is of use there: not for types so fine that it gains nothing (Q8_0), nor for
/// those whose scales are not f16.
pub(crate) fn codec_for(block: &BlockType) -> Option<&'static Codec> {
    const WITHOUT: [&str; 3] = ["Q8_0", "MXFP4", "NVFP4"];
    let scalar = Codec::of(block).filter(|_| !WITHOUT.contains(&block.name));
    scalar.or_else(|| VectorCodec::of(block).map(|vectors| &vectors.codec))
}

/// Returns the number of columns that a type rounds together, as [`Feedback::arrange`] takes it.
pub(crate) fn unit_of(block: &BlockType) -> usize {
    if VectorCodec::of(block).is_some() { UNIT } else { 1 }
}
