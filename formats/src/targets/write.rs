//! Writing of teacher's files, chunk by chunk.

use std::path::Path;

use super::{
    CHUNKS, Description, IDS, KIND, LOG_PROBABILITIES, LOGITS, REST, Rows, TEXT, TOKENS, VERSION,
    VERSION_KEY, VOCABULARY,
};
use crate::cursor::Number;
use crate::error::{FormatError, Result};
use crate::gguf::{Array, Metadata, Value, layout};
use crate::partial::PartialFile;

/// A teacher's file under construction, to which chunks are appended in their order. It gets its name only when it is finished.
#[derive(Debug)]
pub struct TargetsWriter {
    file: PartialFile,
    context: usize,
    top: usize,
    chunks: u64,
    done: u64,
    /// Offsets of ids, log-probabilities and rests.
    offsets: [u64; 3],
}

impl TargetsWriter {
    /// Starts the file at `path` with the text's `tokens` `[chunks][context]`; an existing file is replaced only if `force` is set.
    ///
    /// # Errors
    /// Fails when the description is empty or contradicts itself or the tokens, or the file cannot be made.
    pub fn create(path: &Path, of: &Description, tokens: &[u32], force: bool) -> Result<Self> {
        let expected = of.len().checked_mul(of.context as u64);
        if of.top == 0
            || of.top > of.tokens()
            || of.tokens() > of.logits
            || of.chunks.end > of.of
            || of.is_empty()
        {
            return Err(invalid(format!(
                "{} likeliest of {} tokens, chunks {:?} of {}",
                of.top,
                of.tokens(),
                of.chunks,
                of.of
            )));
        }
        if expected != Some(tokens.len() as u64) || tokens.iter().any(|&id| id as usize >= of.tokens()) {
            return Err(invalid(format!("{} tokens are not {} chunks of a text", tokens.len(), of.len())));
        }
        let specs =
            of.specs().ok_or_else(|| invalid("the predictions take more bytes than any file has".into()))?;
        let layout = layout(&metadata(of), &specs)?;
        let file = PartialFile::create(path, layout.total, force)?;
        file.write_at(0, &layout.header)?;
        let place = |name: &str| {
            specs.iter().zip(&layout.offsets).find(|(s, _)| s.name == name).map_or(0, |(_, &o)| o)
        };
        file.write_at(place(TOKENS), &bytes(tokens))?;
        let offsets = [IDS, LOG_PROBABILITIES, REST].map(place);
        Ok(Self { file, context: of.context, top: of.top, chunks: of.len(), done: 0, offsets })
    }

    /// Appends the predictions of some whole chunks.
    ///
    /// # Errors
    /// Fails when `rows` are not those of whole chunks, or of more than are missing, or the system cannot write.
    pub fn append(&mut self, rows: &Rows) -> Result<()> {
        let tokens = rows.rest.len();
        let lengths = [rows.ids.len(), rows.log_probabilities.len()];
        if lengths != [tokens * self.top; 2] || !tokens.is_multiple_of(self.context) {
            return Err(invalid(format!("{tokens} tokens with {lengths:?} predictions are no whole chunks")));
        }
        let chunks = (tokens / self.context) as u64;
        if self.done + chunks > self.chunks {
            return Err(invalid(format!("there are more predictions than for {} chunks", self.chunks)));
        }
        let (first, top) = (self.done * self.context as u64, self.top as u64);
        let [ids, log_probabilities, rest] = self.offsets;
        self.file.write_at(ids + first * top * 4, &bytes(&rows.ids))?;
        self.file.write_at(log_probabilities + first * top * 2, &bytes(&rows.log_probabilities))?;
        self.file.write_at(rest + first * 4, &bytes(&rows.rest))?;
        self.done += chunks;
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// Fails when chunks are missing, and as [`PartialFile::finish`] does.
    pub fn finish(self) -> Result<()> {
        if self.done != self.chunks {
            return Err(invalid(format!(
                "{} of {} chunks were never written",
                self.chunks - self.done,
                self.chunks
            )));
        }
        self.file.finish()
    }
}

fn metadata(of: &Description) -> Metadata {
    let mut all = Metadata::new();
    all.set("general.type", KIND.into());
    all.set("general.name", of.teacher.as_str().into());
    all.set(VERSION_KEY, Value::U32(VERSION));
    all.set(LOGITS, Value::U32(u32::try_from(of.logits).unwrap_or(u32::MAX)));
    all.set(TEXT, of.text_sha256.as_str().into());
    all.set(CHUNKS, Value::Array(Array::U64(vec![of.chunks.start, of.chunks.end, of.of])));
    for key in VOCABULARY {
        if let Some(value) = of.vocabulary.get(key) {
            all.set(key, value.clone());
        }
    }
    all
}

fn bytes<T: Number>(values: &[T]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * T::BYTES as usize);
    values.iter().for_each(|value| value.append_to(&mut out));
    out
}

fn invalid(what: String) -> FormatError {
    FormatError::Invalid { what, hint: "give whole chunks of a text and the teacher's vocabulary" }
}
