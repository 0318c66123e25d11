//! The model card of quantized files: README.md as Hugging Face reads it, with what was measured.
//!
//! | file | what |
//! |---|---|
//! | `facts` | what a GGUF says of itself: type, size, bits per weight, memory |
//! | `result` | what was measured, from the JSON of `kquant perplexity` and `kquant quantize --verify` |
//! | `front_matter` | the YAML that the hub reads |
//! | `body` | the text: table, commands, hashes |

mod body;
mod facts;
mod front_matter;
mod result;

use std::path::{Path, PathBuf};

use kquant_formats::FormatError;

use crate::context::Progress;

pub use facts::{GgufFacts, PublishedFile};
pub use result::Measured;

/// The reason why there is no card.
#[derive(Debug, thiserror::Error)]
pub enum ModelCardError {
    /// A GGUF cannot be read.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file holds no result of an evaluation.
    #[error(
        "{}: {what}; give what `kquant perplexity --base ... --json FILE` or `kquant quantize --verify ... --json` wrote",
        path.display()
    )]
    Result {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// What a card says that files do not.
#[derive(Debug, Clone, Default)]
pub struct CardOptions {
    /// Names on Hugging Face of the models that were quantized, such as `Qwen/Qwen3-8B`, instead of what the files say.
    pub base_models: Vec<String>,
    /// Who quantized the model.
    pub quantized_by: Option<String>,
    /// License, as Hugging Face names it, instead of what the files say.
    pub license: Option<String>,
    /// Name on Hugging Face of the repository that the files will be in.
    pub repository: Option<String>,
}

/// A GGUF of the card and what was measured of it.
#[derive(Debug, Clone)]
pub struct CardEntry {
    /// What the GGUF says.
    pub facts: GgufFacts,
    /// What was measured, if anything was.
    pub measured: Option<Measured>,
}

impl CardEntry {
    /// Reads the GGUF at `path` with all its files, and the result of its evaluation, JSON. `progress` is told of the bytes that are hashed.
    ///
    /// # Errors
    /// Fails when a file cannot be read, is malformed, or is no result.
    pub fn open(path: &Path, result: Option<&Path>, progress: &dyn Progress) -> Result<Self, ModelCardError> {
        let measured = result.map(Measured::open).transpose()?;
        Ok(Self { facts: GgufFacts::open(path, progress)?, measured })
    }
}

/// Returns the card of `entries`, in their order. What it says of the model itself is what the first one says.
pub fn model_card(entries: &[CardEntry], options: &CardOptions) -> String {
    let Some(first) = entries.first() else { return String::new() };
    let bases = match options.base_models.as_slice() {
        [] => first.facts.base_models(),
        given => given.to_vec(),
    };
    front_matter::front_matter(&first.facts.metadata, &bases, options) + &body::body(entries, &bases, options)
}
