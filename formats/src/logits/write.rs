//! Writing of logits files.

use std::path::Path;

use super::{HEADER_BYTES, Layout, MAGIC, MAX_CODE, MIN_CONTEXT, RANGE};
use crate::error::{FormatError, Result};
use crate::partial::PartialFile;

/// 1.5 * 2^23, which leaves the nearest integer, ties to even, in the low mantissa bits when it is added to a number of at
/// most 16 bits.
const ROUND: f32 = 12_582_912.0;

/// A logits file under construction, to which rows are appended in the order of the text.
#[derive(Debug)]
pub struct LogitsWriter {
    out: PartialFile,
    row_bytes: u64,
    offset: u64,
    end: u64,
}

impl LogitsWriter {
    /// Starts `path` with the whole text, `tokens` `[chunks][context]`, where a chunk's first token is the text's own and
    /// not BOS. An existing file is replaced only if `force` is set, and only by [`finish`](Self::finish).
    ///
    /// # Errors
    /// Fails when the numbers do not fit the format, a token lies outside the vocabulary, or the file cannot be made.
    pub fn create(
        path: &Path,
        context: usize,
        vocabulary: usize,
        tokens: &[u32],
        force: bool,
    ) -> Result<Self> {
        let (header, layout) = header(context, vocabulary, tokens).map_err(|what| FormatError::Invalid {
            what: format!("{}: {what}", path.display()),
            hint: "give whole chunks of tokens of the model's vocabulary, of at least 3 tokens each",
        })?;
        let Some(end) = layout.total_bytes() else {
            let what = "the logits would take more bytes than any file has";
            return Err(FormatError::limit(path, None, what, "write fewer chunks"));
        };
        let out = PartialFile::create(path, end, force)?;
        out.write_at(0, &header)?;
        Ok(Self { out, row_bytes: layout.row_bytes(), offset: header.len() as u64, end })
    }

    /// Returns the name that the file has until it is finished, which a signal handler has to remove.
    pub fn partial_path(&self) -> &Path {
        self.out.partial_path()
    }

    /// Appends rows that [`encode_row`] made.
    ///
    /// # Errors
    /// Fails when `rows` is not a whole number of rows, there are more rows than scored positions, or the system cannot
    /// write.
    pub fn append(&mut self, rows: &[u8]) -> Result<()> {
        let bytes = rows.len() as u64;
        if !bytes.is_multiple_of(self.row_bytes) {
            return Err(FormatError::Invalid {
                what: format!("{bytes} bytes are not a whole number of rows of {} bytes", self.row_bytes),
                hint: "append what encode_row makes of a whole vocabulary",
            });
        }
        self.out.write_at(self.offset, rows)?;
        self.offset += bytes;
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// Fails when rows are missing, or the system cannot write everything out or rename the file. The partial file is removed
    /// then.
    pub fn finish(self) -> Result<()> {
        self.complete()?.finish()
    }

    /// Returns the file with all its rows but without its name, which it can then get together with files that belong to it.
    ///
    /// # Errors
    /// Fails when rows are missing. The partial file is removed then.
    pub fn complete(self) -> Result<PartialFile> {
        if self.offset != self.end {
            return Err(FormatError::Invalid {
                what: format!("{} rows of logits are missing", (self.end - self.offset) / self.row_bytes),
                hint: "append a row for every scored position",
            });
        }
        Ok(self.out)
    }
}

/// Returns the header of a file with the text `tokens`, and the sizes of its parts.
fn header(
    context: usize,
    vocabulary: usize,
    tokens: &[u32],
) -> std::result::Result<(Vec<u8>, Layout), String> {
    let chunks = tokens.len().checked_div(context).unwrap_or(0);
    if chunks == 0 || tokens.len() != chunks * context || (context as u64) < MIN_CONTEXT {
        return Err(format!("{} tokens are no chunks of {context}", tokens.len()));
    }
    if let Some(token) = tokens.iter().find(|&&t| t as usize >= vocabulary) {
        return Err(format!("token {token} is outside the vocabulary of {vocabulary}"));
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize + 4 * tokens.len());
    bytes.extend(MAGIC);
    for number in [context, vocabulary, chunks] {
        let number = i32::try_from(number).map_err(|_| format!("{number} does not fit 31 bits"))?;
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
    let [context, vocabulary, chunks] = [context, vocabulary, chunks].map(|n| n as u64);
    Ok((bytes, Layout { context, vocabulary, chunks }))
}

/// Appends to `out` the row of `logits` `[vocabulary]`, where `log_sum_exp` is the logarithm of the sum of
/// `exp(logit - max)`. The order of the f32 operations is llama-perplexity's, so that equal logits give equal bytes.
///
/// # Errors
/// Fails when the largest logit or `log_sum_exp` is not finite.
pub fn encode_row(logits: &[f32], log_sum_exp: f32, out: &mut Vec<u8>) -> Result<()> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let min = logits.iter().copied().fold(max, f32::min).max(max - RANGE);
    let min_log_prob = min - max - log_sum_exp;
    if !min_log_prob.is_finite() {
        return Err(FormatError::Invalid {
            what: format!("logits of maximum {max} and log-sum-exp {log_sum_exp} have no log-probabilities"),
            hint: "look for NaN and infinities in the model's tensors",
        });
    }
    let scale = (max - min) / MAX_CODE;
    out.extend(scale.to_le_bytes());
    out.extend(min_log_prob.to_le_bytes());
    let steps = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(logits.iter().flat_map(|&logit| code(logit, min, steps).to_le_bytes()));
    if !logits.len().is_multiple_of(2) {
        out.extend([0; 2]);
    }
    Ok(())
}

/// Returns the code of `logit`: its distance from `min` times `steps`, the codes per nat, rounded.
fn code(logit: f32, min: f32, steps: f32) -> u16 {
    if logit > min { (steps * (logit - min) + ROUND).to_bits() as u16 } else { 0 }
}
