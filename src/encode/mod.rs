//! Encoders, which turn rows and statistics into the bytes of blocks.

mod auto;
pub mod feedback;
mod ggml;
mod gptq;
mod guarded;
mod layer_method;
mod range;
mod search;

use std::sync::Arc;

use kquant_kernels::block::BlockType;

pub use layer_method::{LayerMethod, LayerTensor, Needs};
pub use range::OutOfRange;
pub(crate) use range::{encode_in_range, first_outside, first_overflow, first_where, is_all_zero, remedy};

/// Rows of f32 weights, `[rows][columns]`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The weights, row after row.
    pub weights: &'a [f32],
    /// Length of a row, in weights.
    pub columns: usize,
}

/// A way to encode rows.
pub trait Encoder: std::fmt::Debug + Sync {
    /// Returns the encoder's name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// Returns one sentence for the help text.
    fn about(&self) -> &'static str;

    /// Returns the method that calibrated runs encode the matrices of layers with, if the encoder has one: it needs the Hessians of
    /// their inputs. All other weights are encoded by the functions below.
    fn layer_method(&self, _options: &feedback::Options, _both_sides: bool) -> Option<Arc<dyn LayerMethod>> {
        None
    }

    /// Returns true if the encoder has a method for layers.
    fn wants_hessians(&self) -> bool {
        self.layer_method(&feedback::Options::default(), false).is_some()
    }

    /// Returns true if the importance of experts that few tokens reached is first blended with their layer's, which
    /// llama-quantize does not do.
    fn pools_experts(&self) -> bool {
        false
    }

    /// Returns the importance (`[matrices][columns]`) as this encoder uses it; it is computed once per tensor.
    fn prepare_importance(&self, importance: &[f32], columns: usize) -> Vec<f32>;

    /// Encodes `rows` into `out`, which has exactly the length of their bytes in `block`; `importance` is `[columns]`.
    fn encode(&self, block: &BlockType, rows: Rows<'_>, importance: Option<&[f32]>, out: &mut [u8]);
}

/// All encoders; the first is the default.
pub static ENCODERS: &[&dyn Encoder] =
    &[&guarded::Guarded, &auto::Auto, &search::Search, &gptq::Gptq, &ggml::Ggml];

/// Returns the encoder called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Encoder> {
    ENCODERS.iter().copied().find(|e| e.name().eq_ignore_ascii_case(name))
}

/// Number of columns that share the finest scale of any block type; where the importance of all of them is zero, ggml's
/// searches find no scale and write zeros.
pub const FINEST_GROUP: usize = 16;

/// Returns the number of groups of [`FINEST_GROUP`] columns whose importance is all zero.
pub fn zero_groups(importance: &[f32]) -> usize {
    importance.chunks(FINEST_GROUP).filter(|group| group.iter().all(|&w| w == 0.0)).count()
}
