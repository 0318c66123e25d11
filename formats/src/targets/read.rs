//! Reading of teacher's files. Predictions are read and checked chunk by chunk.

use std::path::{Path, PathBuf};

use super::{
    CHUNKS, Description, IDS, KIND, LOG_PROBABILITIES, LOGITS, REST, Rows, TEXT, TOKENS, VERSION,
    VERSION_KEY, VOCABULARY, types,
};
use crate::cursor::Number;
use crate::error::{DAMAGED, FormatError, Result};
use crate::gguf::{Array, Gguf, Metadata, TensorInfo, Value};

const AGAIN: &str = "make it again with kquant teach";

/// Most that rounding to 16 bits may add to a log-probability, in nats.
const MARGIN: f32 = 0.01;

/// Bits of the sign of a 16-bit float, and of its exponent.
const SIGN: u16 = 0x8000;
const EXPONENT: u16 = 0x7c00;

/// An open teacher's file.
#[derive(Debug)]
pub struct TargetsFile {
    path: PathBuf,
    gguf: Gguf,
    description: Description,
    tokens: Vec<u32>,
    /// Ids, log-probabilities and rests.
    places: [TensorInfo; 3],
}

impl TargetsFile {
    /// Opens `path` and checks everything but the predictions.
    ///
    /// # Errors
    /// Fails when the file cannot be read, breaks a rule of GGUF, is no teacher's file or has a later version, or when its keys and
    /// shapes contradict each other.
    pub fn open(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path, types).map_err(|error| of_another_kind(path, error))?;
        let keys = Keys { path, metadata: gguf.metadata() };
        keys.check_version()?;
        let find = |name: &str| {
            let found = gguf.tensors().iter().find(|tensor| tensor.name == name);
            found.cloned().ok_or_else(|| keys.malformed(format!("has no tensor {name:?}")))
        };
        let tokens = find(TOKENS)?;
        let places = [find(IDS)?, find(LOG_PROBABILITIES)?, find(REST)?];
        let description = keys.description(&tokens, &places[0])?;
        for (spec, found) in
            description.specs().into_iter().flatten().zip([&tokens].into_iter().chain(&places))
        {
            if (&spec.shape, spec.type_id) != (&found.shape, found.type_id) {
                let what =
                    format!("tensor {:?} has shape {:?}, not {:?}", spec.name, found.shape, spec.shape);
                return Err(FormatError::malformed(path, found.offset, what, DAMAGED));
            }
        }
        let (at, vocabulary) = (tokens.offset, description.tokens());
        let tokens = u32::all(&gguf.data(&tokens)?);
        if let Some(place) = tokens.iter().position(|&id| id as usize >= vocabulary) {
            let what = format!("token {} is not in a vocabulary of {vocabulary}", tokens[place]);
            return Err(FormatError::malformed(path, at + 4 * place as u64, what, DAMAGED));
        }
        Ok(Self { path: path.to_owned(), gguf, description, tokens, places })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns everything that the file states besides its predictions.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the tokens of the text, `[chunks][context]`.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the predictions of chunk `chunk` of the file.
    ///
    /// # Errors
    /// Fails when there is no such chunk, it cannot be read, or it holds what no prediction is.
    pub fn chunk(&self, chunk: u64) -> Result<Rows> {
        let of = &self.description;
        let (tokens, top) = (of.context as u64, of.top as u64);
        let first = chunk * tokens;
        let read = |place: usize, values: u64, size: u64| {
            let start = first * values * size;
            self.gguf.extent(&self.places[place])?.part(start..start + tokens * values * size)?.read()
        };
        let rows = Rows {
            ids: u32::all(&read(0, top, 4)?),
            log_probabilities: u16::all(&read(1, top, 2)?),
            rest: f32::all(&read(2, 1, 4)?),
        };
        self.check(&rows, first)?;
        Ok(rows)
    }

    /// Checks the predictions after token number `first` of the file and those that follow.
    fn check(&self, rows: &Rows, first: u64) -> Result<()> {
        let (top, vocabulary) = (self.description.top, self.description.tokens());
        let fault = |place: usize, value: u64, size: u64, what: &str| {
            let offset = self.places[place].offset + (first * self.per_token(place) + value) * size;
            Err(FormatError::malformed(&self.path, offset, what, DAMAGED))
        };
        for (token, ids) in rows.ids.chunks(top).enumerate() {
            let rising = ids.windows(2).position(|pair| pair[0] >= pair[1]);
            let beyond = ids.iter().position(|&id| id as usize >= vocabulary);
            if let Some(at) = rising.map(|at| at + 1).or(beyond) {
                let what = format!("predicted token {} is out of order or not in the vocabulary", ids[at]);
                return fault(0, (token * top + at) as u64, 4, &what);
            }
        }
        if let Some(at) = rows.log_probabilities.iter().position(|&bits| !is_log_probability(bits)) {
            return fault(1, at as u64, 2, "a log-probability is above 0 or no number");
        }
        if let Some(at) = rows.rest.iter().position(|rest| !(0.0..=1.0 + MARGIN).contains(rest)) {
            return fault(2, at as u64, 4, &format!("a probability is {}", rows.rest[at]));
        }
        Ok(())
    }

    fn per_token(&self, place: usize) -> u64 {
        if place == 2 { 1 } else { self.description.top as u64 }
    }
}

/// Returns true for bits of a 16-bit float that is at most [`MARGIN`]; minus infinity is a log-probability, too.
fn is_log_probability(bits: u16) -> bool {
    /// 0.01 as a 16-bit float.
    const MARGIN_BITS: u16 = 0x211f;
    if bits & SIGN != 0 { bits & !SIGN <= EXPONENT } else { bits <= MARGIN_BITS }
}

/// Says of a model that it is no teacher's file; its types are not known here.
fn of_another_kind(path: &Path, error: FormatError) -> FormatError {
    match error {
        FormatError::Malformed { what, .. } if what.contains("its type ") => {
            FormatError::malformed(path, None, format!("is no teacher's file: {what}"), AGAIN)
        }
        other => other,
    }
}

/// The keys of a file.
struct Keys<'a> {
    path: &'a Path,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    fn malformed(&self, what: impl Into<String>) -> FormatError {
        FormatError::malformed(self.path, None, what, AGAIN)
    }

    fn check_version(&self) -> Result<()> {
        let kind = self.metadata.get("general.type").and_then(Value::as_str);
        match self.metadata.get(VERSION_KEY).and_then(Value::as_u64) {
            _ if kind != Some(KIND) => Err(self.malformed("is no teacher's file")),
            Some(version) if version == u64::from(VERSION) => Ok(()),
            Some(version) => {
                let what =
                    format!("is a teacher's file of version {version}, and {VERSION} is the last one known");
                Err(FormatError::limit(self.path, None, what, "update kquant"))
            }
            None => Err(self.malformed(format!("has no key {VERSION_KEY}"))),
        }
    }

    fn text(&self, key: &str) -> Result<String> {
        let found = self.metadata.get(key).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| self.malformed(format!("has no key {key}")))
    }

    fn description(&self, tokens: &TensorInfo, ids: &TensorInfo) -> Result<Description> {
        let mut vocabulary = Metadata::new();
        for key in VOCABULARY {
            if let Some(value) = self.metadata.get(key) {
                vocabulary.set(key, value.clone());
            }
        }
        let logits = self.metadata.get(LOGITS).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let logits = logits.ok_or_else(|| self.malformed(format!("has no key {LOGITS}")))?;
        let (chunks, of) = match self.metadata.get(CHUNKS) {
            Some(Value::Array(Array::U64(numbers))) => match numbers[..] {
                [start, end, of] if start < end && end <= of => (start..end, of),
                _ => return Err(self.malformed(format!("{CHUNKS} is {numbers:?}, which is no range"))),
            },
            _ => return Err(self.malformed(format!("has no key {CHUNKS}"))),
        };
        let size =
            |tensor: &TensorInfo| tensor.shape.first().and_then(|&n| usize::try_from(n).ok()).unwrap_or(0);
        let found = Description {
            teacher: self.text("general.name")?,
            vocabulary,
            logits,
            text_sha256: self.text(TEXT)?,
            context: size(tokens),
            top: size(ids),
            chunks,
            of,
        };
        if found.specs().is_none() || found.top > found.tokens() || found.tokens() > logits {
            return Err(self.malformed(format!(
                "has {} likeliest tokens of a vocabulary of {}, in {} chunks of {}",
                found.top,
                found.tokens(),
                found.len(),
                found.context
            )));
        }
        Ok(found)
    }
}
