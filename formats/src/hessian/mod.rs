//! Statistics files: an importance matrix and, for each group of tensors that share an input, the outer products of what
//! enters them. They can be added up.
//!
//! A file is a GGUF with all that one of an importance matrix has ([`crate::imatrix`]), so that its readers take it for one.
//! Besides, for each group, called by its first tensor, of `n` columns, all F64:
//!
//! | tensor | shape | what |
//! |---|---|---|
//! | `GROUP.in_sum2_exact` | `[n, 2]` | sums of squares of all tokens rounded to f64, and what rounding left |
//! | `GROUP.in_outer.tokens` | `[2]` | tokens of the two halves |
//! | `GROUP.in_outer.train` | `[n (n + 1) / 2]` | sum of `x'x` over the tokens used to fit: the upper triangle, row after row |
//! | `GROUP.in_outer.held_out` | the same | sum over the tokens held out to judge by |
//!
//! Where tensors hold several matrices with inputs of their own (experts), all of these have one dimension more, and the
//! importance is that of all matrices: `[n * matrices, 2]`, `[2, matrices]`, `[n (n + 1) / 2, matrices]`.
//!
//! | key | type | what |
//! |---|---|---|
//! | `kquant.hessian.version` | u32 | 1 |
//! | `kquant.hessian.block_tokens` | u32 | tokens of a block of text, a multiple of `imatrix.chunk_size` |
//! | `kquant.hessian.held_out_every` | u32 | block `b` of a text is held out if `b mod this` is the last remainder |
//! | `kquant.hessian.groups` | strings | names of the tensors of each group, with spaces between |
//! | `kquant.hessian.texts` | strings | SHA-256 of each text |
//! | `kquant.hessian.blocks` | u64s | three a range: index of the text, first block, end |
//!
//! Ranges are sorted and apart: what is in the sums twice can thus be refused.
//!
//! A file may have Fisher matrices of outputs, too: outer products of the gradients g of a loss, that of labels drawn from the
//! model's own predictions, by what leaves a linear map. All F64, for each tensor concerned, of `m` outputs:
//!
//! | tensor | shape | what |
//! |---|---|---|
//! | `TENSOR.out_outer` | `[m (m + 1) / 2]` | sum of `g'g` over all tokens, of all matrices of the tensor: the upper triangle, row after row |
//! | `TENSOR.out_sum2` | `[m]` | in its place, where only the diagonal is known |
//! | `TENSOR.out_tokens` | `[1]` | how many g there were |
//!
//! `token_embd.weight` stands for the rows looked up in it; `output.weight` for the projection to logits, whatever its weights
//! are called.
//!
//! | key | type | what |
//! |---|---|---|
//! | `kquant.fisher.seed` | u64 | of the labels |
//! | `kquant.fisher.tensors` | strings | names of these tensors |
//! | `kquant.fisher.outputs` | u64s | the `m` of each |

mod fisher;
mod ranges;
mod read;
mod write;

use std::ops::Range;

pub use fisher::{Fisher, Fishers};
pub use ranges::{BlockRange, Blocks, Overlap};
pub use read::HessianFile;
pub use write::{GroupSums, HessianWriter};

use crate::gguf::TypeLayout;

const VERSION: u32 = 1;
const VERSION_KEY: &str = "kquant.hessian.version";
const BLOCK_TOKENS: &str = "kquant.hessian.block_tokens";
const HELD_OUT_EVERY: &str = "kquant.hessian.held_out_every";
const GROUPS: &str = "kquant.hessian.groups";
const TEXTS: &str = "kquant.hessian.texts";
const BLOCKS: &str = "kquant.hessian.blocks";

const SQUARES: &str = ".in_sum2_exact";
const TOKENS: &str = ".in_outer.tokens";

pub(crate) const F32: u32 = 0;
const F64: u32 = 28;

/// The halves of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// What encoders fit to.
    Train,
    /// What they are judged by.
    HeldOut,
}

impl Half {
    /// Both, in the order in which tokens are counted.
    pub const ALL: [Self; 2] = [Self::Train, Self::HeldOut];

    fn suffix(self) -> &'static str {
        match self {
            Self::Train => ".in_outer.train",
            Self::HeldOut => ".in_outer.held_out",
        }
    }
}

/// How a text was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Tokens per chunk.
    pub context: u32,
    /// Tokens per block.
    pub block_tokens: u32,
    /// Every how many blocks one is held out.
    pub held_out_every: u32,
}

impl Cut {
    /// The half that block `block` of a text belongs to.
    pub fn half(&self, block: u64) -> Half {
        let every = u64::from(self.held_out_every.max(1));
        if block % every == every - 1 { Half::HeldOut } else { Half::Train }
    }
}

/// What a statistics file tells besides its sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Names of the texts.
    pub datasets: Vec<String>,
    /// Chunks seen.
    pub chunks: u32,
    /// How the texts were cut.
    pub cut: Cut,
    /// Which blocks were seen.
    pub blocks: Blocks,
    /// The groups.
    pub groups: Vec<Group>,
    /// The Fisher matrices, if there are any.
    pub fishers: Option<Fishers>,
}

/// Tensors that share an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Their GGUF names, at least one; the first names the group.
    pub tensors: Vec<String>,
    /// Columns of each.
    pub columns: usize,
    /// Matrices of each, with inputs of their own; mostly 1.
    pub matrices: usize,
}

impl Group {
    /// The name of the group.
    pub fn name(&self) -> &str {
        self.tensors.first().map_or("", String::as_str)
    }

    /// Values of the upper triangle of one matrix's outer products.
    pub fn packed(&self) -> usize {
        packed(self.columns)
    }
}

/// Values of the upper triangle of a symmetric matrix of `n` rows.
pub fn packed(n: usize) -> usize {
    n * (n + 1) / 2
}

/// The values that row `row` of the upper triangle of `n` rows has in it: columns `row..n`.
pub fn packed_row(n: usize, row: usize) -> Range<usize> {
    let start = row * n - row * row.saturating_sub(1) / 2;
    start..start + n - row
}

/// The types in importance matrices and statistics files.
pub(crate) fn float_types(id: u32) -> Option<TypeLayout> {
    match id {
        F32 => Some(TypeLayout { name: "F32", elements: 1, bytes: 4 }),
        F64 => Some(TypeLayout { name: "F64", elements: 1, bytes: 8 }),
        _ => None,
    }
}
