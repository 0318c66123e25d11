//! The reference encoder, which writes byte for byte what llama-quantize writes on x86-64.

use kquant_kernels::block::BlockType;
use kquant_kernels::isa::Isa;

use super::{Encoder, Rows};

/// The encoder that calls ggml's encoders with the importance as it is, hazards included.
#[derive(Debug)]
pub(super) struct Ggml;

impl Encoder for Ggml {
    fn name(&self) -> &'static str {
        "ggml"
    }

    fn about(&self) -> &'static str {
        "byte-identical to llama-quantize in every case"
    }

    fn prepare_importance(&self, importance: &[f32], _columns: usize) -> Vec<f32> {
        importance.to_vec()
    }

    fn encode(&self, block: &BlockType, rows: Rows<'_>, importance: Option<&[f32]>, out: &mut [u8]) {
        encode_rows(block, rows, importance, out);
    }
}

/// Encodes row by row. The plan has refused types without an encoder before.
pub(super) fn encode_rows(block: &BlockType, rows: Rows<'_>, importance: Option<&[f32]>, out: &mut [u8]) {
    let bytes = rows.columns / block.elements * block.bytes;
    let isa = Isa::current();
    if let Some(encode) = block.encode {
        for (row, out) in rows.weights.chunks_exact(rows.columns).zip(out.chunks_exact_mut(bytes)) {
            encode(isa, row, importance, out);
        }
    }
}
