//! The table of block types: one row per type, one file per type.
//!
//! A tensor row of `columns` weights is stored as `columns / elements` blocks of `bytes` bytes each. Readers of files
//! call [`BlockType::decode`], the encoder `ggml` calls [`BlockType::encode`], and the encoders that choose codes
//! themselves go through [`BlockType::codec`].
//!
//! Each type's file defines it: the layout of the block, the weights that it decodes to, and the bytes that ggml's
//! encoder (x86-64, no fused multiply-add) makes of weights, to the bit. The order of ggml's float operations is
//! therefore part of the definition. Encoders expect finite weights; for others they write some block, without a
//! panic.
//!
//! | files | content |
//! |---|---|
//! | `q4_0` ... `iq4_xs` | one type each |
//! | `layout`, `codes`, `fp4`, `grid`, `codebook`, `six_bit_header` | fields of blocks that several types share |
//! | `row`, `legacy_blocks`, `affine_superblock` | encoders that several types share |
//! | `magnitudes`, `ternary`, `points`, `contenders` | the search of the i-quants below 4 bits |
//! | `packed_points` | those i-quants as codes of single weights, for calibrated encoders |
//! | `fit` | searches for scales, which all of these encoders call |

mod affine_superblock;
mod codebook;
mod codes;
mod contenders;
pub(crate) mod fit;
mod fp4;
mod grid;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod layout;
mod legacy_blocks;
mod limits;
mod magnitudes;
mod mxfp4;
mod nvfp4;
mod packed_points;
mod plain;
mod points;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod row;
mod six_bit_header;
mod ternary;
mod tq1_0;
mod tq2_0;

pub use limits::Limits;

use crate::codec::{Codec, VectorCodec};
use crate::isa::Isa;

/// The use that a type's encoder makes of an importance vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// The encoder never looks at the importance vector.
    Ignored,
    /// The encoder takes the importance vector into account when it gets one.
    Optional,
    /// The type cannot be encoded without an importance vector.
    Required,
}

/// Decodes whole blocks: `bytes` holds n blocks, `out` n times the block's elements. A rest of either that is no whole
/// block is left alone.
pub type Decode = fn(bytes: &[u8], out: &mut [f32]);

/// Encodes one row on an instruction set, whose choice changes the speed alone: `row` holds the weights `[columns]`,
/// `importance`, if given, is `[columns]`, and `out` is exactly the row's bytes.
pub type Encode = fn(isa: Isa, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]);

/// The description of a type for encoders that choose codes themselves.
#[derive(Clone, Copy)]
pub enum BlockCodec {
    /// There is no description: plain numbers, and types that no encoder but ggml's writes.
    Opaque,
    /// Each code stands for one weight.
    Scalar(&'static Codec),
    /// Each code stands for several weights.
    Vector(&'static VectorCodec),
}

/// One block type: a row of the table [`TYPES`].
pub struct BlockType {
    /// ggml's name in upper case, such as `Q4_K`.
    pub name: &'static str,
    /// ggml's type id, which GGUF stores.
    pub id: u32,
    /// Weights per block.
    pub elements: usize,
    /// Bytes per block.
    pub bytes: usize,
    /// True if the weights are coded (k-quants, ...), false if they are stored as plain numbers.
    pub quantized: bool,
    /// Decoder of blocks to f32.
    pub decode: Decode,
    /// ggml's encoder; absent where kquant cannot write the type.
    pub encode: Option<Encode>,
    /// The use that `encode` makes of an importance vector.
    pub importance: Importance,
    /// The way in which scales and codes make weights.
    pub codec: BlockCodec,
    /// Which weights it can hold.
    pub limits: Limits,
}

/// Shows the name alone: a type and its codec refer to each other.
impl std::fmt::Debug for BlockType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl BlockType {
    /// Returns the bytes of a row of `columns` weights; `None` when the row is no whole number of blocks or the size
    /// overflows.
    pub fn row_bytes(&self, columns: u64) -> Option<u64> {
        let elements = self.elements as u64;
        if !columns.is_multiple_of(elements) {
            return None;
        }
        (columns / elements).checked_mul(self.bytes as u64)
    }

    /// Returns the stored bits per weight.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elements as f64
    }
}

impl PartialEq for BlockType {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for BlockType {}

/// Every type, in the order of its ids.
pub static TYPES: &[&BlockType] = &[
    &plain::F32,
    &plain::F16,
    &q4_0::TYPE,
    &q4_1::TYPE,
    &q5_0::TYPE,
    &q5_1::TYPE,
    &q8_0::TYPE,
    &q8_1::TYPE,
    &q2_k::TYPE,
    &q3_k::TYPE,
    &q4_k::TYPE,
    &q5_k::TYPE,
    &q6_k::TYPE,
    &q8_k::TYPE,
    &iq2_xxs::TYPE,
    &iq2_xs::TYPE,
    &iq3_xxs::TYPE,
    &iq1_s::TYPE,
    &iq4_nl::TYPE,
    &iq3_s::TYPE,
    &iq2_s::TYPE,
    &iq4_xs::TYPE,
    &plain::I8,
    &plain::I16,
    &plain::I32,
    &plain::I64,
    &plain::F64,
    &iq1_m::TYPE,
    &plain::BF16,
    &tq1_0::TYPE,
    &tq2_0::TYPE,
    &mxfp4::TYPE,
    &nvfp4::TYPE,
    &q1_0::TYPE,
    &q2_0::TYPE,
];

/// Returns the type with ggml's id `id`.
pub fn by_id(id: u32) -> Option<&'static BlockType> {
    TYPES.iter().copied().find(|t| t.id == id)
}

/// Returns the type called `name`, in upper or lower case.
pub fn by_name(name: &str) -> Option<&'static BlockType> {
    TYPES.iter().copied().find(|t| t.name.eq_ignore_ascii_case(name))
}
