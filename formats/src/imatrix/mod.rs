//! Importance matrices: sums of squared activations per column, as llama-imatrix collects them.

mod dat;
mod gguf;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{FormatError, Result};
use crate::gguf::header::MAGIC;
use crate::map::Mapped;

/// An importance matrix file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imatrix {
    /// Statistics by tensor name (`blk.0.attn_q.weight`).
    pub entries: BTreeMap<String, Entry>,
    /// Names of the texts that it was computed on.
    pub datasets: Vec<String>,
    /// Number of chunks of text seen; older files do not tell.
    pub chunk_count: Option<u32>,
    /// Tokens per chunk; the legacy format does not tell.
    pub chunk_size: Option<u32>,
}

/// The statistics of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Columns of each matrix.
    pub columns: usize,
    /// Number of matrices (experts) of the tensor. The legacy format does not tell: 1, of all experts' columns together.
    pub matrices: usize,
    /// `[matrices][columns]`: sum of squares, finite and not negative. The legacy format has them divided by the number of
    /// tokens and multiplied by `counts`.
    pub sums: Vec<f32>,
    /// `[matrices]`: how many times something was added; whole numbers.
    pub counts: Vec<f32>,
}

impl Imatrix {
    /// Reads `path`, a GGUF or a legacy `.dat`, whatever its name.
    ///
    /// # Errors
    /// When the file cannot be read, is truncated or holds absurd lengths, or an entry holds numbers that no sum of squares
    /// can be.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Mapped::open(path)?;
        if map.bytes().starts_with(&MAGIC) {
            gguf::parse(path, map.bytes())
        } else {
            dat::parse(path, map.bytes())
        }
    }
}

impl Entry {
    /// Mean square of each column, `[matrices][columns]`: what llama-quantize weights errors by, to the bit. A matrix that
    /// was never used (count 0) gets ones.
    pub fn importance(&self) -> Vec<f32> {
        let matrices = self.sums.chunks_exact(self.columns.max(1)).zip(&self.counts);
        matrices
            .flat_map(|(sums, &n)| sums.iter().map(move |&sum| if n > 0.0 { sum / n } else { 1.0 }))
            .collect()
    }
}

/// Refuses what cannot be a sum of squares or a count.
fn check_numbers(path: &Path, offset: u64, name: &str, what: &str, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite() || *v < 0.0) {
        None => Ok(()),
        Some(i) => {
            let value = values.get(i).copied().unwrap_or_default();
            let what =
                format!("entry {name:?}: {what} {i} is {value}, which squares of activations cannot give");
            Err(FormatError::malformed(
                path,
                offset + 4 * i as u64,
                what,
                "compute the importance matrix again",
            ))
        }
    }
}
