//! Texts that models are run over: read once, tokenized, cut into chunks.

use std::path::{Path, PathBuf};

use kquant_formats::{FormatError, whole};

use crate::model::{Model, ModelError};
use crate::text::{ChunkError, Chunks};
use crate::vocab::TokenizerError;

/// Tokens per chunk where nothing else is asked for: llama-perplexity's default.
const DEFAULT_CONTEXT: usize = 512;

/// Returns the tokens per chunk of `model` where nothing else is asked for: 512, or its context if that is shorter.
pub fn default_context(model: &Model) -> usize {
    DEFAULT_CONTEXT.min(model.hyper.context)
}

/// A text, read once: a pipe gives it no second time.
#[derive(Debug, Clone)]
pub struct TextFile {
    /// Where it came from.
    pub path: PathBuf,
    /// All of it.
    pub content: String,
}

/// How much of a text is used, and how it is cut.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cut {
    /// Tokens per chunk; by default 512, or the model's context if that is shorter.
    pub context: Option<usize>,
    /// Chunks to use; by default all.
    pub chunks: Option<usize>,
}

/// Why a text cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file cannot be read, is no text file or too long.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The bytes are no text.
    #[error("{path}: the text is not UTF-8")]
    Encoding {
        /// The text's file.
        path: PathBuf,
        /// Where it stops being UTF-8.
        source: std::string::FromUtf8Error,
    },
    /// The model cannot read it, or has no such context.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The vocabulary cannot express it.
    #[error("{path}")]
    Tokenize {
        /// The text's file.
        path: PathBuf,
        /// What is wrong.
        source: TokenizerError,
    },
    /// The model is to write all of a text that there is a file of.
    #[error(
        "{path}: nothing of the text would be used; ask for less own text (--own-text), or leave out --calibrate"
    )]
    NothingOfFile {
        /// The text's file.
        path: PathBuf,
    },
    /// The model's own text cannot be cut so.
    #[error("the model's own text")]
    Own(#[source] ChunkError),
    /// It is too short to be cut so.
    #[error("{path}")]
    Cut {
        /// The text's file.
        path: PathBuf,
        /// What is wrong.
        source: ChunkError,
    },
}

impl TextFile {
    /// Reads `path`, a file or a pipe of up to 1 GiB.
    ///
    /// # Errors
    /// When it is anything else, longer, cannot be read or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, TextError> {
        let text = whole::read_file_or_pipe(path, whole::TEXT)?;
        let content = String::from_utf8(text)
            .map_err(|source| TextError::Encoding { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), content })
    }

    /// The text as `model` tokenizes it, in chunks that begin with the token that its sequences begin with.
    ///
    /// # Errors
    /// When the model has no tokenizer or no such context, or the text is too short.
    pub fn chunks(&self, model: &Model, cut: Cut) -> Result<Chunks, TextError> {
        let (tokens, bos) = self.tokenized(model)?;
        self.cut(model, tokens, cut, bos)
    }

    /// All tokens of the text, with the one in front that its sequences begin with, and the same as [`chunks`](Self::chunks).
    ///
    /// # Errors
    /// As for [`chunks`](Self::chunks).
    pub fn tokens_and_chunks(&self, model: &Model, cut: Cut) -> Result<(Vec<u32>, Chunks), TextError> {
        let (tokens, bos) = self.tokenized(model)?;
        Ok((tokens.clone(), self.cut(model, tokens, cut, bos)?))
    }

    /// The tokens, with the one in front that sequences begin with, and that one.
    fn tokenized(&self, model: &Model) -> Result<(Vec<u32>, Option<u32>), TextError> {
        let tokenizer = model.tokenizer()?;
        let bos = tokenizer.add_bos();
        let wrong = |source| TextError::Tokenize { path: self.path.clone(), source };
        let mut tokens: Vec<u32> = bos.into_iter().collect();
        tokens.extend(tokenizer.encode(&self.content, false).map_err(wrong)?);
        Ok((tokens, bos))
    }

    fn cut(&self, model: &Model, tokens: Vec<u32>, cut: Cut, bos: Option<u32>) -> Result<Chunks, TextError> {
        let longest = model.hyper.context;
        let context = cut.context.unwrap_or_else(|| default_context(model));
        if context > longest {
            return Err(ModelError::Context { asked: context, longest }.into());
        }
        Chunks::new(tokens, context, cut.chunks, bos)
            .map_err(|source| TextError::Cut { path: self.path.clone(), source })
    }
}
