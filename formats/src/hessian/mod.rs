//! Statistics files: an importance matrix and, for each group of tensors that share an input, the sum of outer products of
//! that input's activations. Files over different text can be added up.
//!
//! A statistics file is a GGUF with everything that one of an importance matrix has ([`crate::imatrix`]), so that readers of
//! importance matrices accept it. In addition, it has these F64 tensors for each group of `n` columns, where `GROUP` is the
//! name of the group's first tensor:
//!
//! | tensor | shape | content |
//! |---|---|---|
//! | `GROUP.in_sum2_exact` | `[n, 2]` | sums of squares over all tokens, rounded to f64, and the errors of that rounding |
//! | `GROUP.in_outer.tokens` | `[2]` | number of tokens in each of the two halves |
//! | `GROUP.in_outer.train` | `[n (n + 1) / 2]` | sum of `x'x` over the tokens used to fit: the upper triangle, row after row |
//! | `GROUP.in_outer.held_out` | `[n (n + 1) / 2]` | sum of `x'x` over the tokens held out for comparisons |
//!
//! Where a tensor holds several matrices with inputs of their own (experts), these tensors have one dimension more, and the
//! importance covers all matrices: `[n * matrices, 2]`, `[2, matrices]`, `[n (n + 1) / 2, matrices]`.
//!
//! | key | type | content |
//! |---|---|---|
//! | `kquant.hessian.version` | u32 | version of this format, 1 |
//! | `kquant.hessian.block_tokens` | u32 | tokens per block of text, a multiple of `imatrix.chunk_size` |
//! | `kquant.hessian.held_out_every` | u32 | `n` where block `b` of a text is held out if `b mod n` is `n - 1` |
//! | `kquant.hessian.groups` | strings | names of the tensors of each group, separated by spaces |
//! | `kquant.hessian.texts` | strings | SHA-256 of each text |
//! | `kquant.hessian.blocks` | u64s | three numbers per range of blocks: index of the text, first block, end |
//!
//! Ranges are sorted and disjoint, so that a block which would be counted twice can be refused.
//!
//! A file may also hold Fisher matrices of outputs: sums of outer products of the gradients `g` of a loss with respect to
//! the outputs of a linear map. The loss is the cross-entropy for labels drawn from the model's own predictions. For each
//! such tensor with `m` outputs, the file has these F64 tensors:
//!
//! | tensor | shape | content |
//! |---|---|---|
//! | `TENSOR.out_outer` | `[m (m + 1) / 2]` | sum of `g'g` over all tokens and all matrices of the tensor: the upper triangle, row after row |
//! | `TENSOR.out_sum2` | `[m]` | the diagonal of that sum, stored in its place where the triangle would be too large |
//! | `TENSOR.out_tokens` | `[1]` | number of gradients in the sum |
//!
//! `token_embd.weight` stands for the rows looked up in it, and `output.weight` for the projection to logits, whatever the
//! name of its weights.
//!
//! | key | type | content |
//! |---|---|---|
//! | `kquant.fisher.seed` | u64 | seed that the labels were drawn with |
//! | `kquant.fisher.tensors` | strings | names of the tensors that have a Fisher matrix |
//! | `kquant.fisher.outputs` | u64s | `m` of each of these tensors |

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

/// The halves that the blocks of a text are divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Tokens that encoders fit to.
    Train,
    /// Tokens that encoders never fit to, on which their results are compared.
    HeldOut,
}

impl Half {
    /// Both halves, in the order in which tokens are counted.
    pub const ALL: [Self; 2] = [Self::Train, Self::HeldOut];

    fn suffix(self) -> &'static str {
        match self {
            Self::Train => ".in_outer.train",
            Self::HeldOut => ".in_outer.held_out",
        }
    }
}

/// The way in which texts are cut into chunks, blocks and halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Tokens per chunk.
    pub context: u32,
    /// Tokens per block.
    pub block_tokens: u32,
    /// Number of blocks of which the last one is held out.
    pub held_out_every: u32,
}

impl Cut {
    /// Returns the half that block `block` of a text belongs to.
    pub fn half(&self, block: u64) -> Half {
        let every = u64::from(self.held_out_every.max(1));
        if block % every == every - 1 { Half::HeldOut } else { Half::Train }
    }
}

/// Everything that a statistics file states besides its sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Names of the texts, as an importance matrix has them.
    pub datasets: Vec<String>,
    /// Number of chunks seen.
    pub chunks: u32,
    /// The way in which the texts were cut.
    pub cut: Cut,
    /// Blocks that were seen.
    pub blocks: Blocks,
    /// Groups of tensors, in the order of the file.
    pub groups: Vec<Group>,
    /// Fisher matrices, if the file has any.
    pub fishers: Option<Fishers>,
}

/// Tensors that share an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// GGUF names of the tensors, at least one; the first one names the group.
    pub tensors: Vec<String>,
    /// Columns of each matrix.
    pub columns: usize,
    /// Matrices of each tensor, which have inputs of their own; 1 unless they are experts.
    pub matrices: usize,
}

impl Group {
    /// Returns the name of the group, which is that of its first tensor.
    pub fn name(&self) -> &str {
        self.tensors.first().map_or("", String::as_str)
    }

    /// Returns the number of values in the upper triangle of one matrix's outer products.
    pub fn packed(&self) -> usize {
        packed(self.columns)
    }
}

/// Returns the number of values in the upper triangle of a symmetric matrix of `n` rows.
pub fn packed(n: usize) -> usize {
    n * (n + 1) / 2
}

/// Returns the range of row `row`, which holds columns `row..n`, in a packed upper triangle of `n` rows.
pub fn packed_row(n: usize, row: usize) -> Range<usize> {
    let start = row * n - row * row.saturating_sub(1) / 2;
    start..start + n - row
}

/// Looks up the types that importance matrices and statistics files use.
pub(crate) fn float_types(id: u32) -> Option<TypeLayout> {
    match id {
        F32 => Some(TypeLayout { name: "F32", elements: 1, bytes: 4 }),
        F64 => Some(TypeLayout { name: "F64", elements: 1, bytes: 8 }),
        _ => None,
    }
}
