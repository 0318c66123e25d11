//! The 4-bit floats that gpt-oss publishes: the byte tensors `X_blocks` `[..][groups][16]` and `X_scales` `[..][groups]`
//! are one tensor `X_blocks` `[..][groups * 32]` of GGUF's MXFP4.

use kquant_formats::safetensors;
use kquant_kernels::block::{self, BlockType};

use super::{ReadError, TensorInfo};

const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// Number of weights that share a scale.
pub(super) const ELEMENTS: u64 = 32;
/// Number of bytes of the codes of a scale's weights.
pub(super) const CODES: usize = 16;

/// Returns the name of the scales of the blocks called `name`.
pub(super) fn scales_of(name: &str) -> Option<String> {
    name.strip_suffix(BLOCKS).map(|stem| format!("{stem}{SCALES}"))
}

/// Returns the name of the blocks of the scales called `name`.
pub(super) fn blocks_of(name: &str) -> Option<String> {
    name.strip_suffix(SCALES).map(|stem| format!("{stem}{BLOCKS}"))
}

/// A tensor that is stored as codes and scales.
pub(super) struct Fp4 {
    /// Index of the stored tensor of scales.
    pub scales: usize,
    block: &'static BlockType,
}

impl Fp4 {
    /// Creates the tensor that `blocks`, which is stored under the index `stored`, and `scales` make.
    ///
    /// # Errors
    /// Fails when their shapes or types do not fit.
    pub(super) fn new(
        blocks: &safetensors::TensorInfo,
        scales: &safetensors::TensorInfo,
        stored: usize,
    ) -> Result<(TensorInfo, Self), ReadError> {
        let fits = match blocks.shape[..] {
            [ref outer @ .., 16] => *outer == scales.shape[..] && !outer.is_empty(),
            _ => false,
        };
        let types = [blocks, scales].map(|t| t.dtype.name());
        let block = block::by_name("MXFP4").filter(|_| fits && types == ["U8", "U8"]);
        let block = block.ok_or_else(|| {
            ReadError(format!(
                "tensors `{}` {:?} ({}) and `{}` {:?} ({}) are no 4-bit floats: expected U8 [.., groups, 16] and [.., groups]",
                blocks.name, blocks.shape, types[0], scales.name, scales.shape, types[1]
            ))
        })?;
        let mut shape = scales.shape.clone();
        if let Some(groups) = shape.last_mut() {
            *groups *= ELEMENTS;
        }
        let info = TensorInfo {
            name: blocks.name.clone(),
            shape,
            dtype: block.name,
            block: Some(block),
            stored: (ELEMENTS, CODES as u64),
            gathered: None,
            shard: blocks.shard,
        };
        Ok((info, Self { scales: stored, block }))
    }

    /// Writes blocks in GGUF's layout into `out`: the scale, then codes of which the first 16 are in the low halves of
    /// the bytes.
    pub(super) fn blocks(&self, codes: &[u8], scales: &[u8], out: &mut [u8]) {
        let stored = scales.iter().zip(codes.chunks_exact(CODES));
        for ((scale, codes), out) in stored.zip(out.chunks_exact_mut(self.block.bytes)) {
            out[0] = *scale;
            // The published bytes hold neighbouring codes, the first of them in the low half.
            let code = |i: usize| (codes[i / 2] >> (4 * (i % 2))) & 15;
            for (i, out) in out[1..].iter_mut().enumerate() {
                *out = code(i) | (code(i + CODES) << 4);
            }
        }
    }

    /// Decodes the weights of `codes` and their `scales`.
    pub(super) fn decode(&self, codes: &[u8], scales: &[u8], out: &mut [f32]) -> Result<(), ReadError> {
        let mut blocks = vec![0; scales.len() * self.block.bytes];
        self.blocks(codes, scales, &mut blocks);
        (self.block.decode)(&blocks, out);
        Ok(())
    }
}
