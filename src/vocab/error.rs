//! Errors of reading a tokenizer.

use std::path::{Path, PathBuf};

use kquant_formats::FormatError;

use super::pre_tokenizer::NAMES;

/// The reason why a folder's tokenizer cannot become GGUF keys.
#[derive(Debug, thiserror::Error)]
pub enum VocabError {
    /// A file that exists could not be read, or is not a SentencePiece model.
    #[error(transparent)]
    File(#[from] FormatError),
    /// A file is not JSON.
    #[error("{}:{line}:{column}: {what}; the file may be cut short: fetch it again", path.display())]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// Line of the error, from 1.
        line: usize,
        /// Column of the error, from 1.
        column: usize,
        /// What the parser found.
        what: String,
    },
    /// A file is well-formed, but its contents are impossible.
    #[error("{}: {what}", path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// The tokenizer is of a kind that kquant or llama.cpp does not have.
    #[error("{}: {what} is not supported; {instead}", path.display())]
    Unsupported {
        /// Path of the file.
        path: PathBuf,
        /// The feature that the file asks for.
        what: String,
        /// What is supported instead, or what to do.
        instead: String,
    },
    /// The folder has no tokenizer.
    #[error("{}: no tokenizer found: looked for {looked_for}; copy the model's tokenizer files next to its weights", folder.display())]
    Missing {
        /// Path of the model's folder.
        folder: PathBuf,
        /// The list of file names looked for.
        looked_for: &'static str,
    },
    /// There are more tokens than embedding rows.
    #[error(
        "{}: {tokens} tokens, but the model has {rows} embedding rows (vocab_size in config.json); \
         the tokenizer and the weights are not of the same model",
        path.display()
    )]
    TooManyTokens {
        /// Path of the tokenizer file.
        path: PathBuf,
        /// Highest token id + 1.
        tokens: u64,
        /// Number of rows of the token embedding.
        rows: u64,
    },
    /// The pre-tokenizer's definition is not in the table.
    #[error(
        "{}: pre_tokenizer is not one that llama.cpp is known to have: {definition}; \
         if you know its name there, say --pre NAME (such as {}, ...)",
        path.display(),
        SUGGESTED.join(", ")
    )]
    UnknownPreTokenizer {
        /// Path of the tokenizer file.
        path: PathBuf,
        /// The definition as JSON, shortened.
        definition: String,
    },
    /// The name given with `--pre` is not one of llama.cpp's pre-tokenizers.
    #[error("--pre {name}: llama.cpp has no such pre-tokenizer; it has {}", NAMES.join(", "))]
    UnknownPreName {
        /// The name given.
        name: String,
    },
}

/// Names that the error of an unknown definition suggests: those of the common families.
const SUGGESTED: &[&str] =
    &["gpt-2", "llama-bpe", "qwen2", "smollm", "tekken", "gpt-4o", "deepseek-v3", "starcoder"];

impl VocabError {
    /// Returns the error of a file with impossible contents.
    pub(super) fn content(path: &Path, what: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), what: what.into() }
    }

    /// Returns the error of a tokenizer that GGUF cannot express.
    pub(super) fn unsupported(path: &Path, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into(), instead: instead.into() }
    }
}
