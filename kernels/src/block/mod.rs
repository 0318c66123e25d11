//! The table of block types: one row per type, one file per type.
//!
//! A tensor row of `columns` weights is stored as `columns / elements` blocks of `bytes` bytes each.

/// What an encoder does with an importance vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// The encoder never looks at it.
    Ignored,
    /// Used when given.
    Optional,
    /// The type cannot be encoded without one.
    Required,
}

/// Decodes whole blocks: `bytes` holds n blocks, `out` n times the block's elements.
pub type Decode = fn(bytes: &[u8], out: &mut [f32]);

/// Encodes one row: `row` holds the weights `[columns]`, `importance` (when given) `[columns]`,
/// `out` exactly the row's bytes.
pub type Encode = fn(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]);

/// One block type: a row of the table.
#[derive(Debug)]
pub struct BlockType {
    /// ggml's name, upper case: `Q4_K`.
    pub name: &'static str,
    /// ggml's type id, as stored in GGUF.
    pub id: u32,
    /// Weights per block.
    pub elements: usize,
    /// Bytes per block.
    pub bytes: usize,
    /// Whether the weights are coded (k-quants, ...) rather than stored as plain numbers.
    pub quantized: bool,
    /// Decoder of blocks to f32.
    pub decode: Decode,
    /// ggml's encoder; absent where kquant cannot write the type.
    pub encode: Option<Encode>,
    /// What `encode` does with an importance vector.
    pub importance: Importance,
}

impl BlockType {
    /// Bytes of a row of `columns` weights; `None` when the row is no whole number of blocks or the size overflows.
    pub fn row_bytes(&self, columns: u64) -> Option<u64> {
        let elements = self.elements as u64;
        if !columns.is_multiple_of(elements) {
            return None;
        }
        (columns / elements).checked_mul(self.bytes as u64)
    }

    /// Stored bits per weight.
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
pub static TYPES: &[BlockType] = &[];

/// The type with ggml's id `id`.
pub fn by_id(id: u32) -> Option<&'static BlockType> {
    TYPES.iter().find(|t| t.id == id)
}

/// The type called `name`, in any case.
pub fn by_name(name: &str) -> Option<&'static BlockType> {
    TYPES.iter().find(|t| t.name.eq_ignore_ascii_case(name))
}
