//! Importance matrices: sums of squared activations per column, as llama-imatrix collects them.

mod dat;
mod gguf;

pub(crate) use gguf::{COUNTS, SUMS, metadata};

use std::collections::BTreeMap;
use std::path::Path;

use crate::cursor::Number;
use crate::error::{FormatError, Result};
use crate::gguf::header::MAGIC;
use crate::source::Source;

/// The content of an importance matrix file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imatrix {
    /// Statistics by tensor name (`blk.0.attn_q.weight`).
    pub entries: BTreeMap<String, Entry>,
    /// Names of the texts that the matrix was computed on.
    pub datasets: Vec<String>,
    /// Number of chunks of text; unknown in older files.
    pub chunk_count: Option<u32>,
    /// Tokens per chunk; unknown in the legacy format.
    pub chunk_size: Option<u32>,
}

/// The statistics of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Columns of each matrix.
    pub columns: usize,
    /// Number of matrices (experts) of the tensor. The legacy format does not state it, so that it is 1 and `columns` covers
    /// all experts.
    pub matrices: usize,
    /// Sums of squares, finite and not negative, `[matrices][columns]`. The legacy format has them divided by the number of
    /// tokens and multiplied by `counts`.
    pub sums: Vec<f32>,
    /// Number of summands, whole numbers, `[matrices]`.
    pub counts: Vec<f32>,
}

impl Imatrix {
    /// Reads the file at `path`, a GGUF or a legacy `.dat` whatever its name.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is truncated or states absurd lengths, or an entry holds numbers that cannot be
    /// sums of squares.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Source::open(path)?;
        match file.starts_with(&MAGIC)? {
            true => gguf::read(&file),
            false => file.parse(|bytes| dat::parse(path, bytes, file.bytes())),
        }
    }

    /// Writes the GGUF form, byte for byte as llama-imatrix does; an existing `path` is replaced only if `force` is set.
    ///
    /// # Errors
    /// Fails when the chunk size is unknown, an entry has values that the reader refuses or a name that GGUF cannot hold, or
    /// the file cannot be written. Nothing is left behind then.
    pub fn write_gguf(&self, path: &Path, force: bool) -> Result<()> {
        self.check()?;
        gguf::write(self, path, force)
    }

    /// Writes the legacy `.dat` form, byte for byte as llama-imatrix does; an existing `path` is replaced only if `force` is
    /// set.
    ///
    /// The legacy form holds means. The counts of single matrices are lost, and matrices that were never used get ones.
    /// Entries without any count, and all datasets but the last, are left out.
    ///
    /// # Errors
    /// Fails when an entry has values that the reader refuses or that 31 bits cannot count, or the file cannot be written.
    /// Nothing is left behind then.
    pub fn write_dat(&self, path: &Path, force: bool) -> Result<()> {
        self.check()?;
        dat::write(self, path, force)
    }

    /// Returns the number of chunks, estimated from the counts where it is not known.
    fn chunks(&self) -> u32 {
        self.chunk_count.unwrap_or_else(|| {
            let most = self.entries.values().map(Entry::most_used).fold(0.0, f32::max);
            (f64::from(most) / f64::from(self.chunk_size.unwrap_or(1).max(1))) as u32
        })
    }

    /// Refuses a matrix that the reader would refuse.
    fn check(&self) -> Result<()> {
        if self.entries.is_empty() {
            return Err(FormatError::Invalid {
                what: "an importance matrix without entries cannot be written".into(),
                hint: "compute the importance matrix again",
            });
        }
        self.entries.iter().try_for_each(|(name, entry)| check_entry(name, entry))
    }
}

/// Refuses an entry that the reader would refuse.
pub(crate) fn check_entry(name: &str, entry: &Entry) -> Result<()> {
    let invalid = |what: String| FormatError::Invalid { what, hint: "compute the importance matrix again" };
    let Entry { columns, matrices, sums, counts } = entry;
    if columns.checked_mul(*matrices) != Some(sums.len()) || counts.len() != *matrices || sums.is_empty() {
        let (sums, counts) = (sums.len(), counts.len());
        return Err(invalid(format!(
            "entry {name:?}: {sums} sums and {counts} counts are not those of {matrices} matrices of {columns} columns"
        )));
    }
    for (what, values) in [("sum", sums), ("count", counts)] {
        if let Some((i, value)) = first_fault(values) {
            return Err(invalid(fault(name, what, i, value)));
        }
    }
    Ok(())
}

impl Entry {
    /// Returns the mean square of each column, `[matrices][columns]`: the weights that llama-quantize gives to errors, to
    /// the bit. A matrix that was never used (count 0) gets ones.
    pub fn importance(&self) -> Vec<f32> {
        let matrices = self.sums.chunks_exact(self.columns.max(1)).zip(&self.counts);
        matrices
            .flat_map(|(sums, &n)| sums.iter().map(move |&sum| if n > 0.0 { sum / n } else { 1.0 }))
            .collect()
    }

    /// Returns the count of the matrix that was used most.
    fn most_used(&self) -> f32 {
        self.counts.iter().copied().fold(0.0, f32::max)
    }
}

/// Refuses values that cannot be sums of squares or counts; `offset` is the place of the first value in the file, in bytes.
fn check_numbers(path: &Path, offset: u64, name: &str, what: &str, values: &[f32]) -> Result<()> {
    let Some((i, value)) = first_fault(values) else { return Ok(()) };
    Err(FormatError::malformed(
        path,
        offset + 4 * i as u64,
        fault(name, what, i, value),
        "compute the importance matrix again",
    ))
}

/// Returns the index and value of the first number that cannot be a sum of squares or a count.
fn first_fault(values: &[f32]) -> Option<(usize, f32)> {
    values.iter().copied().enumerate().find(|(_, v)| !v.is_finite() || *v < 0.0)
}

fn fault(name: &str, what: &str, i: usize, value: f32) -> String {
    format!("entry {name:?}: {what} {i} is {value}, which squares of activations cannot give")
}

/// Returns `values` as bytes, little-endian.
fn to_bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.into_iter().for_each(|v| v.append_to(&mut bytes));
    bytes
}
