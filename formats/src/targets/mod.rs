//! Teacher's files: what a model predicts after each token of a text, from which a smaller model is trained.
//!
//! After each token the `top` likeliest next tokens are known with their log-probabilities, and the probability of all others
//! together: `6 * top + 8` bytes a token. A file is a GGUF without weights of a model. Files of parts of a text are used side
//! by side.
//!
//! | tensor | type | shape | content |
//! |---|---|---|---|
//! | `targets.tokens` | I32 | `[context, chunks]` | tokens of the text, as models read them: with the one that marks a beginning, where the vocabulary has it |
//! | `targets.ids` | I32 | `[top, context * chunks]` | likeliest next tokens, in rising order |
//! | `targets.log_probabilities` | F16 | `[top, context * chunks]` | their natural logarithms of probabilities |
//! | `targets.rest` | F32 | `[context * chunks]` | probability of all other tokens together |
//!
//! | key | type | content |
//! |---|---|---|
//! | `general.type` | string | `targets` |
//! | `general.name` | string | name of the teacher |
//! | `kquant.targets.version` | u32 | version of this format, 1 |
//! | `kquant.targets.logits` | u32 | size of the teacher's predictions, at least that of the vocabulary |
//! | `kquant.targets.text.sha256` | string | SHA-256 of the text, in hexadecimal |
//! | `kquant.targets.chunks` | u64s | first chunk of the text that the file has, the end of its range, number of the text's chunks |
//! | `tokenizer.ggml.tokens`, `tokenizer.ggml.token_type` | strings, i32s | the teacher's vocabulary, as its GGUF has it |

mod read;
mod write;

use std::ops::Range;

pub use read::TargetsFile;
pub use write::TargetsWriter;

use crate::gguf::{Array, Metadata, TensorSpec, TypeLayout, Value};

const VERSION: u32 = 1;
const KIND: &str = "targets";
const VERSION_KEY: &str = "kquant.targets.version";
const LOGITS: &str = "kquant.targets.logits";
const TEXT: &str = "kquant.targets.text.sha256";
const CHUNKS: &str = "kquant.targets.chunks";
/// Keys of the vocabulary, of which the first is required.
const VOCABULARY: [&str; 2] = ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type"];

const TOKENS: &str = "targets.tokens";
const IDS: &str = "targets.ids";
const LOG_PROBABILITIES: &str = "targets.log_probabilities";
const REST: &str = "targets.rest";

const F32: u32 = 0;
const F16: u32 = 1;
const I32: u32 = 26;

/// Everything that a teacher's file states besides its predictions.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Name of the teacher.
    pub teacher: String,
    /// The teacher's vocabulary, as keys of a GGUF; other keys are left out when the file is written.
    pub vocabulary: Metadata,
    /// Size of the teacher's predictions; those beyond the vocabulary belong to no token.
    pub logits: usize,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: String,
    /// Tokens per chunk.
    pub context: usize,
    /// Likeliest tokens that are known after each token.
    pub top: usize,
    /// Chunks of the text that the file has.
    pub chunks: Range<u64>,
    /// Number of chunks of the whole text.
    pub of: u64,
}

impl Description {
    /// Returns the number of chunks in the file.
    pub fn len(&self) -> u64 {
        self.chunks.end.saturating_sub(self.chunks.start)
    }

    /// Returns whether the file has no chunks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of tokens of the teacher's vocabulary.
    pub fn tokens(&self) -> usize {
        match self.vocabulary.get(VOCABULARY[0]) {
            Some(Value::Array(Array::String(texts))) => texts.len(),
            _ => 0,
        }
    }

    /// Returns the tensors of the file, in their order; `None` if their sizes overflow.
    fn specs(&self) -> Option<[TensorSpec; 4]> {
        let (top, context) = (self.top as u64, self.context as u64);
        let tokens = context.checked_mul(self.len())?;
        let spec = |name: &str, shape: &[u64], type_id, size: u64| {
            let values = shape.iter().try_fold(1u64, |all, &d| all.checked_mul(d))?;
            let bytes = values.checked_mul(size)?;
            Some(TensorSpec { name: name.to_owned(), shape: shape.to_vec(), type_id, bytes })
        };
        Some([
            spec(TOKENS, &[context, self.len()], I32, 4)?,
            spec(IDS, &[top, tokens], I32, 4)?,
            spec(LOG_PROBABILITIES, &[top, tokens], F16, 2)?,
            spec(REST, &[tokens], F32, 4)?,
        ])
    }
}

/// The predictions after each token of some chunks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// The likeliest next tokens in rising order, `[tokens][top]`.
    pub ids: Vec<u32>,
    /// Natural logarithms of their probabilities as bits of 16-bit floats, `[tokens][top]`.
    pub log_probabilities: Vec<u16>,
    /// Probability of all other tokens together, `[tokens]`.
    pub rest: Vec<f32>,
}

/// Looks up the types of the file's tensors.
fn types(id: u32) -> Option<TypeLayout> {
    match id {
        F32 => Some(TypeLayout { name: "F32", elements: 1, bytes: 4 }),
        F16 => Some(TypeLayout { name: "F16", elements: 1, bytes: 2 }),
        I32 => Some(TypeLayout { name: "I32", elements: 1, bytes: 4 }),
        _ => None,
    }
}
