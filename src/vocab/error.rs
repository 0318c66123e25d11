//! What can be wrong with a tokenizer.

use std::path::{Path, PathBuf};

use kquant_formats::FormatError;

use super::pre_tokenizer::NAMES;

/// Why a folder's tokenizer cannot become GGUF keys.
#[derive(Debug, thiserror::Error)]
pub enum VocabError {
    /// A file that exists could not be read, or is no SentencePiece model.
    #[error(transparent)]
    File(#[from] FormatError),
    /// A file is not JSON.
    #[error("{}:{line}:{column}: {what}; the file may be cut short: fetch it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line of the error, from 1.
        line: usize,
        /// Column of the error, from 1.
        column: usize,
        /// What the parser met.
        what: String,
    },
    /// A file is well-formed but says something impossible.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// A kind of tokenizer that kquant or llama.cpp does not have.
    #[error("{}: {what} is not supported; {instead}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        what: String,
        /// What would be supported, or what to do.
        instead: String,
    },
    /// The folder has no tokenizer.
    #[error("{}: no tokenizer found: looked for {looked_for}; copy the model's tokenizer files next to its weights", folder.display())]
    Missing {
        /// The model's folder.
        folder: PathBuf,
        /// The file names, listed.
        looked_for: &'static str,
    },
    /// More tokens than embedding rows.
    #[error(
        "{}: {tokens} tokens, but the model has {rows} embedding rows (vocab_size in config.json); \
         the tokenizer and the weights are not of the same model",
        path.display()
    )]
    TooManyTokens {
        /// The tokenizer file.
        path: PathBuf,
        /// Highest token id + 1.
        tokens: u64,
        /// Rows of the token embedding.
        rows: u64,
    },
    /// The pre-tokenizer's definition is in no table.
    #[error(
        "{}: pre_tokenizer is not one that llama.cpp is known to have: {definition}; \
         if you know its name there, say --pre NAME (such as {}, ...)",
        path.display(),
        SUGGESTED.join(", ")
    )]
    UnknownPreTokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// The definition as JSON, shortened.
        definition: String,
    },
    /// `--pre` names no pre-tokenizer of llama.cpp.
    #[error("--pre {name}: llama.cpp has no such pre-tokenizer; it has {}", NAMES.join(", "))]
    UnknownPreName {
        /// The name given.
        name: String,
    },
}

/// Names that an unknown definition's error offers: the common families.
const SUGGESTED: &[&str] =
    &["gpt-2", "llama-bpe", "qwen2", "smollm", "tekken", "gpt-4o", "deepseek-v3", "starcoder"];

impl VocabError {
    /// A file that says something impossible.
    pub(super) fn content(path: &Path, what: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), what: what.into() }
    }

    /// A tokenizer that cannot be carried over.
    pub(super) fn unsupported(path: &Path, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into(), instead: instead.into() }
    }
}
