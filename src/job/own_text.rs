//! The text that a model is calibrated on, of which it may write a part, or all, itself.
//!
//! A model's own samples stand for what it was trained on where no text is at hand. How they compare with texts is in
//! docs/how-it-works.md.

use std::path::PathBuf;
use std::str::FromStr;

use super::text::{Cut, TextError, TextFile, default_context};
use crate::context::{Context, Unit};
use crate::hash::bytes_sha256;
use crate::model::Model;
use crate::model::sample::{Sampling, sample};
use crate::text::{Chunks, FileText, OwnText, TextOrigin, mixed};

/// Number of tokens that a model writes where neither a text nor a number of chunks says how much.
pub const OWN_TOKENS: usize = 131_072;

/// The share of a calibration text that the model writes itself, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnShare(f64);

impl OwnShare {
    /// The model writes nothing.
    pub const NOTHING: Self = Self(0.0);
    /// The model writes all of the text.
    pub const ALL: Self = Self(1.0);

    /// Returns the share if it lies from 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// Returns the number of chunks to write of `all` chunks.
    fn of(self, all: usize) -> usize {
        ((all as f64 * self.0).round() as usize).min(all)
    }

    /// Returns the number of chunks to write for `of_file` chunks of a file, so that of all together they have this share.
    fn beside(self, of_file: usize) -> usize {
        (of_file as f64 * self.0 / (1.0 - self.0)).round() as usize
    }
}

impl FromStr for OwnShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let share = match text.strip_suffix('%') {
            Some(percent) => number(percent).map(|percent| percent / 100.0),
            None => number(text),
        };
        share.and_then(Self::new).ok_or_else(|| format!("`{text}` is no share: give 0% to 100%, or 0 to 1"))
    }
}

/// Where a text to calibrate on comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSource {
    /// A file or a pipe; without one the model writes all of the text.
    pub file: Option<PathBuf>,
    /// The share that the model writes where there is a file.
    pub own: OwnShare,
}

/// A text to calibrate on.
#[derive(Debug, Clone)]
pub struct CalibrationText {
    /// What identifies it.
    pub origin: TextOrigin,
    /// Its tokens.
    pub chunks: Chunks,
}

impl TextSource {
    /// The text of the file `path`, without any of the model's own.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), own: OwnShare::NOTHING }
    }

    /// A text that the model writes all of.
    pub fn own() -> Self {
        Self { file: None, own: OwnShare::ALL }
    }

    /// Reads the file and lets `model` write its share, drawn by `seed`. `cut.chunks` counts the chunks of both together;
    /// without it the file is used whole.
    ///
    /// # Errors
    /// [`TextError`] when the file cannot be used, or the model cannot be run or has no token that begins a text.
    pub fn read(
        &self,
        model: &Model,
        cut: Cut,
        seed: u64,
        run: &Context,
    ) -> Result<CalibrationText, TextError> {
        let Some(path) = &self.file else {
            let context = cut.context.unwrap_or_else(|| default_context(model));
            let chunks = cut.chunks.unwrap_or(OWN_TOKENS.div_ceil(context.max(1)));
            let (own, chunks) = write(model, (chunks, context), seed, run)?;
            let origin = TextOrigin { file: None, own: Some(own), sha256: tokens_sha256(&chunks) };
            return Ok(CalibrationText { origin, chunks });
        };
        let text = TextFile::read(path)?;
        let of_file = cut.chunks.map(|all| all - self.own.of(all));
        if self.own.0 >= 1.0 || of_file == Some(0) {
            return Err(TextError::NothingOfFile { path: path.clone() });
        }
        let chunks = text.chunks(model, Cut { chunks: of_file, ..cut })?;
        let sha256 = bytes_sha256(text.content.as_bytes());
        let file = FileText { path: path.clone(), sha256: sha256.clone(), bytes: text.content.len() as u64 };
        let origin = TextOrigin { file: Some(file), own: None, sha256 };
        let count = cut.chunks.map_or_else(|| self.own.beside(chunks.len()), |all| self.own.of(all));
        if count == 0 {
            return Ok(CalibrationText { origin, chunks });
        }
        let (own, written) = write(model, (count, chunks.context()), seed, run)?;
        let chunks =
            mixed(&chunks, &written).map_err(|source| TextError::Cut { path: path.clone(), source })?;
        let origin = TextOrigin { own: Some(own), sha256: tokens_sha256(&chunks), ..origin };
        Ok(CalibrationText { origin, chunks })
    }
}

/// Returns the SHA-256 of the tokens as little-endian numbers of 32 bits, in hexadecimal.
fn tokens_sha256(chunks: &Chunks) -> String {
    let bytes: Vec<u8> = chunks.tokens().iter().flat_map(|token| token.to_le_bytes()).collect();
    bytes_sha256(&bytes)
}

/// Lets `model` write `count` chunks of `context` tokens, as it predicts them, each from the beginning of a text.
fn write(
    model: &Model,
    (count, context): (usize, usize),
    seed: u64,
    run: &Context,
) -> Result<(OwnText, Chunks), TextError> {
    let tokens = count.saturating_mul(context);
    run.progress.begin(tokens as u64, Unit::Work);
    let sampled = sample(model, &Sampling { tokens, context, seed, temperature: 1.0, top_p: 1.0 }, run)?;
    let own = OwnText { tokens: sampled.tokens().len() as u64, seed };
    Ok((own, sampled.into_chunks().map_err(TextError::Own)?))
}
