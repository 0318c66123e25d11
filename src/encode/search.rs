//! The encoder that searches scales and codes for the least error weighted by importance.

use kquant_kernels::block::BlockType;
use kquant_kernels::codec::{Codec, SearchOptions, search};

use super::ggml::encode_rows;
use super::guarded::Guarded;
use super::{Encoder, Rows};

/// The encoder that writes of every superblock the searched version or `guarded`'s, whichever has the lower weighted
/// error; types without a codec are encoded by `guarded`.
#[derive(Debug)]
pub(super) struct Search;

impl Encoder for Search {
    fn name(&self) -> &'static str {
        "search"
    }

    fn about(&self) -> &'static str {
        "the least weighted squared error found, never above guarded's"
    }

    fn pools_experts(&self) -> bool {
        true
    }

    fn prepare_importance(&self, importance: &[f32], columns: usize) -> Vec<f32> {
        Guarded.prepare_importance(importance, columns)
    }

    fn encode(&self, block: &BlockType, rows: Rows<'_>, importance: Option<&[f32]>, out: &mut [u8]) {
        let Some(codec) = Codec::of(block) else { return encode_rows(block, rows, importance, out) };
        let bytes = rows.columns / block.elements * block.bytes;
        for (row, out) in rows.weights.chunks_exact(rows.columns).zip(out.chunks_exact_mut(bytes)) {
            codec.write(&search(codec, row, importance, SearchOptions::default()), out);
        }
    }
}
