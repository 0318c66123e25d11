//! Reading of logits files, row by row.

use std::cmp::Reverse;
use std::path::Path;

use super::{Layout, MAGIC, MAX_CODE, MIN_CONTEXT, RANGE, SCALES_BYTES};
use crate::cursor::{Cursor, Number};
use crate::error::{DAMAGED, FormatError, Result};
use crate::source::Source;

/// Most that rounding, to 16 bits and in the arithmetic before, may add to a log-probability, in nats.
const MARGIN: f32 = 0.01;

/// An open logits file, whose rows are read when they are used.
#[derive(Debug)]
pub struct LogitsFile {
    file: Source,
    layout: Layout,
    tokens: Vec<u32>,
    rows_offset: u64,
}

/// The log-probabilities of all tokens at one position, in 16 bits each.
#[derive(Debug, Clone, Copy)]
pub struct LogProbs<'a> {
    /// Log-probability per step of a code, in nats; not negative.
    pub scale: f32,
    /// Log-probability of code 0, in nats.
    pub min: f32,
    /// Codes `[vocabulary]`, u16 little-endian.
    codes: &'a [u8],
}

impl LogitsFile {
    /// Opens `path` and checks everything but the rows' numbers.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is no logits file, holds impossible numbers or tokens outside its vocabulary, or
    /// has another length than its header implies.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Source::open(path)?;
        let (layout, tokens, rows_offset) = file.parse(|bytes| read_header(path, bytes, file.bytes()))?;
        Ok(Self { file, layout, tokens, rows_offset })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the tokens per chunk.
    pub fn context(&self) -> usize {
        self.layout.context as usize
    }

    /// Returns the size of the vocabulary: the number of log-probabilities in a row.
    pub fn vocabulary(&self) -> usize {
        self.layout.vocabulary as usize
    }

    /// Returns the number of chunks.
    pub fn chunks(&self) -> usize {
        self.layout.chunks as usize
    }

    /// Returns the text `[chunks][context]`, whose tokens are all below [`vocabulary`](Self::vocabulary). A chunk's first
    /// token is not replaced by BOS.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the number of scored positions, and so of rows, in each chunk.
    pub fn rows_per_chunk(&self) -> usize {
        self.layout.rows_per_chunk() as usize
    }

    /// Returns the row of position `context / 2 + row` of a chunk, read into `buffer`.
    ///
    /// # Errors
    /// Fails when the file has no such row, or its scale, minimum or codes cannot belong to log-probabilities.
    /// Log-probabilities are at most 0 and reach at most 16 nats below the best, whose code is the highest.
    pub fn row<'b>(&self, chunk: usize, row: usize, buffer: &'b mut Vec<u8>) -> Result<LogProbs<'b>> {
        if chunk >= self.chunks() || row >= self.rows_per_chunk() {
            return Err(FormatError::Invalid {
                what: format!("{}: has no row {row} of chunk {chunk}", self.path().display()),
                hint: "ask for no more chunks and rows than the file says it holds",
            });
        }
        let index = chunk as u64 * self.layout.rows_per_chunk() + row as u64;
        let offset = self.rows_offset + index * self.layout.row_bytes();
        let bytes = self.file.window(offset..offset + self.layout.row_bytes(), buffer)?;
        let fault = |what: String| {
            FormatError::malformed(self.path(), offset, format!("row {row} of chunk {chunk} {what}"), DAMAGED)
        };
        let parts = bytes.split_at_checked(4).and_then(|(scale, rest)| {
            let (min, rest) = rest.split_at_checked(4)?;
            Some((f32::first(scale)?, f32::first(min)?, rest.get(..2 * self.vocabulary())?))
        });
        let (scale, min, codes) = parts.ok_or_else(|| fault("is cut short".into()))?;
        let row = LogProbs { scale, min, codes };
        let even = 2 * self.vocabulary().next_multiple_of(2);
        let filler = bytes.get(SCALES_BYTES as usize..).and_then(|rest| rest.get(codes.len()..even));
        if filler.is_none_or(|filler| filler.iter().any(|&byte| byte != 0)) {
            return Err(fault("has another filler than 0 after its last code".into()));
        }
        match row.fault() {
            Some(what) => Err(fault(what)),
            None => Ok(row),
        }
    }
}

impl LogProbs<'_> {
    /// Returns the reason why the row cannot hold log-probabilities, if there is one, with the number and the token
    /// concerned.
    fn fault(&self) -> Option<String> {
        let Self { scale, min, .. } = *self;
        if !(scale.is_finite() && scale >= 0.0 && min.is_finite()) {
            return Some(format!("has scale {scale} and minimum {min}"));
        }
        if scale * MAX_CODE > RANGE + MARGIN {
            return Some(format!(
                "has scale {scale}: its log-probabilities reach {} below the best, where the format ends at {RANGE}",
                scale * MAX_CODE
            ));
        }
        // Among equal codes, the first token counts.
        let best = self.codes().zip(0..).max_by_key(|&(code, token): &(u16, u32)| (code, Reverse(token)));
        let (code, token) = best?;
        let log_prob = scale * f32::from(code) + min;
        // The likeliest token has at least the probability of a uniform distribution.
        let least = -(self.codes.len() as f32 / 2.0).ln();
        if log_prob > MARGIN {
            return Some(format!("gives token {token} the log-probability {log_prob}, which is above 0"));
        }
        (log_prob < least - MARGIN).then(|| {
            format!(
                "gives its likeliest token, {token}, the log-probability {log_prob}, which is below that of equally \
                 likely tokens, {least}"
            )
        })
    }

    fn codes(&self) -> impl Iterator<Item = u16> + use<'_> {
        self.codes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b))
    }

    /// Replaces the content of `out` by the log-probabilities `[vocabulary]` in nats, computed in f32 as llama-perplexity
    /// does.
    pub fn decode_into(&self, out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.codes().map(|code| self.scale * f32::from(code) + self.min));
    }
}

/// Reads everything before the rows from `bytes`, a prefix of `path`, which has `end` bytes: the layout, the tokens and the offset
/// of the rows in bytes.
fn read_header(path: &Path, bytes: &[u8], end: u64) -> Result<(Layout, Vec<u32>, u64)> {
    let c = &mut Cursor::prefix(path, bytes, end);
    if !bytes.starts_with(MAGIC) {
        let what = "is no logits file: it does not begin with `_logits_`";
        return Err(c.malformed(what, "give a file that `llama-perplexity --kl-divergence-base` wrote"));
    }
    c.take(MAGIC.len() as u64, &"the magic")?;
    let context = read_count(c, "tokens per chunk", MIN_CONTEXT)?;
    let vocabulary = read_count(c, "size of the vocabulary", 1)?;
    let chunks = read_count(c, "number of chunks", 1)?;
    let layout = Layout { context, vocabulary, chunks };
    check_length(path, end, layout)?;
    let tokens = read_tokens(path, c, layout)?;
    Ok((layout, tokens, c.offset()))
}

/// Reads a count of at least `least`.
fn read_count(c: &mut Cursor, label: &str, least: u64) -> Result<u64> {
    let at = c.clone();
    let count: i32 = c.number(&label)?;
    u64::try_from(count)
        .ok()
        .filter(|&n| n >= least)
        .ok_or_else(|| at.malformed(format!("the {label} is {count}, which is less than {least}"), DAMAGED))
}

/// Checks, before anything is allocated, that the file has exactly the length that its header implies.
fn check_length(path: &Path, length: u64, layout: Layout) -> Result<()> {
    let total = layout.total_bytes();
    if total == Some(length) {
        return Ok(());
    }
    let total = total.map_or_else(|| "more bytes than any file has".into(), |n| format!("{n} bytes"));
    let what = format!(
        "has {length} bytes, but {} chunks of {} tokens and a vocabulary of {} take {total}",
        layout.chunks, layout.context, layout.vocabulary
    );
    Err(FormatError::malformed(
        path,
        None,
        what,
        "the run that wrote it may have been stopped: compute it again",
    ))
}

/// Reads the tokens of the text, which must be in the vocabulary.
fn read_tokens(path: &Path, c: &mut Cursor, layout: Layout) -> Result<Vec<u32>> {
    let start = c.offset();
    let tokens: Vec<u32> = c.numbers(layout.tokens(), &"the list of tokens")?;
    match tokens.iter().position(|&t| u64::from(t) >= layout.vocabulary) {
        None => Ok(tokens),
        Some(i) => {
            let token = tokens.get(i).map_or(0, |t| t.cast_signed());
            let what = format!("token {i} is {token}, outside the vocabulary of {}", layout.vocabulary);
            Err(FormatError::malformed(path, start + 4 * i as u64, what, DAMAGED))
        }
    }
}
