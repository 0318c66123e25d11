//! The legacy format: a count of entries, then the name, calls, length and values of each, then the chunk count and the
//! text's name.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, Imatrix, check_numbers, to_bytes};
use crate::cursor::{Cursor, Number};
use crate::error::{DAMAGED, FormatError, Result};
use crate::names::has_control;
use crate::partial::PartialFile;

// An entry has at least a name's length, one byte of name, calls, a length and one value.
const MIN_ENTRY_BYTES: u64 = 4 + 1 + 4 + 4 + 4;

/// Parses the matrix at the start of `bytes`, a prefix of `path`, which has `end` bytes.
pub(super) fn parse(path: &Path, bytes: &[u8], end: u64) -> Result<Imatrix> {
    let c = &mut Cursor::prefix(path, bytes, end);
    let at = c.clone();
    let count = read_count(c, "the entry count")?;
    if count == 0 || count > c.remaining() / MIN_ENTRY_BYTES {
        let what = format!("claims {count} entries in {} bytes", c.remaining());
        return Err(at.malformed(what, "give an importance matrix, GGUF or .dat, as llama-imatrix writes it"));
    }
    let mut entries = BTreeMap::new();
    for i in 0..count {
        let at = c.offset();
        let (name, entry) = read_entry(c, path, i)?;
        if entries.insert(name.clone(), entry).is_some() {
            return Err(FormatError::malformed(path, at, format!("entry {name:?} appears twice"), DAMAGED));
        }
    }
    // Files of early 2024 end after the entries.
    let mut matrix = Imatrix { entries, datasets: Vec::new(), chunk_count: None, chunk_size: None };
    if c.remaining() > 0 {
        matrix.chunk_count = u32::try_from(read_count(c, "the chunk count")?).ok();
    }
    if c.remaining() > 0 {
        let length = read_count(c, "the length of the dataset's name")?;
        let name = c.text(length, &"the dataset's name")?;
        matrix.datasets.extend((!name.is_empty()).then(|| name.to_owned()));
    }
    if c.remaining() > 0 {
        return Err(c.malformed(format!("{} bytes follow the end", c.remaining()), DAMAGED));
    }
    Ok(matrix)
}

fn read_entry(c: &mut Cursor, path: &Path, i: u64) -> Result<(String, Entry)> {
    let at = c.clone();
    let length = read_count(c, &format!("the length of the name of entry {i}"))?;
    let name = c.text(length, &format_args!("the name of entry {i}"))?;
    if name.is_empty() || has_control(name) {
        return Err(at.malformed(format!("entry {i} has the name {name:?}"), DAMAGED));
    }
    let calls = read_count(c, &format!("the calls of entry {name:?}"))?;
    let at = c.clone();
    let columns = read_count(c, &format!("the length of entry {name:?}"))?;
    if columns == 0 {
        return Err(at.malformed(format!("entry {name:?} has no values"), DAMAGED));
    }
    let start = c.offset();
    let sums: Vec<f32> = c.numbers(columns, &format_args!("the values of entry {name:?}"))?;
    check_numbers(path, start, name, "value", &sums)?;
    // llama-quantize takes the values of an entry without calls as they are, which one call amounts to.
    let entry = Entry { columns: sums.len(), matrices: 1, sums, counts: vec![calls.max(1) as f32] };
    Ok((name.to_owned(), entry))
}

/// Reads a count or length, which is an i32 in the file and must not be negative.
fn read_count(c: &mut Cursor, label: &str) -> Result<u64> {
    let at = c.clone();
    let count: i32 = c.number(&label)?;
    u64::try_from(count).map_err(|_| at.malformed(format!("{label} is {count}"), DAMAGED))
}

pub(super) fn write(matrix: &Imatrix, path: &Path, force: bool) -> Result<()> {
    let entries: Vec<(&String, &Entry)> =
        matrix.entries.iter().filter(|(_, e)| e.most_used() > 0.0).collect();
    let mut start = Vec::new();
    write_count(&mut start, entries.len(), "the entry count")?;
    let mut heads = Vec::new();
    for (name, entry) in &entries {
        heads.push(head(name, entry, calls(matrix, entry))?);
    }
    let mut end = Vec::new();
    write_count(&mut end, matrix.chunks() as usize, "the chunk count")?;
    let dataset = matrix.datasets.last().map_or("", String::as_str);
    write_count(&mut end, dataset.len(), "the length of the dataset's name")?;
    end.extend_from_slice(dataset.as_bytes());

    let values: usize = entries.iter().map(|(_, entry)| 4 * entry.sums.len()).sum();
    let total = start.len() + heads.iter().map(Vec::len).sum::<usize>() + values + end.len();
    let file = PartialFile::create(path, total as u64, force)?;
    let mut offset = 0;
    let mut append = |bytes: &[u8]| {
        file.write_at(offset, bytes)?;
        offset += bytes.len() as u64;
        Ok::<_, FormatError>(())
    };
    append(&start)?;
    for ((_, entry), head) in entries.iter().zip(&heads) {
        append(head)?;
        append(&values_of(matrix, entry))?;
    }
    append(&end)?;
    file.finish()
}

/// Returns everything that stands before the values of an entry: length and bytes of the name, calls, number of values.
fn head(name: &str, entry: &Entry, calls: f32) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    write_count(&mut head, name.len(), "the length of an entry's name")?;
    head.extend_from_slice(name.as_bytes());
    write_count(&mut head, calls as usize, &format!("the calls of entry {name:?}"))?;
    write_count(&mut head, entry.sums.len(), &format!("the length of entry {name:?}"))?;
    Ok(head)
}

/// Returns the number of chunks that went into `entry`, rounded up. Counts of a legacy file are chunks already.
fn calls(matrix: &Imatrix, entry: &Entry) -> f32 {
    let tokens = matrix.chunk_size.unwrap_or(1).max(1);
    (f64::from(entry.most_used()) / f64::from(tokens)).ceil() as f32
}

/// Returns the stored values of `entry`: the mean squares times its calls.
fn values_of(matrix: &Imatrix, entry: &Entry) -> Vec<u8> {
    if matrix.chunk_size.is_none() && entry.matrices == 1 {
        return to_bytes(entry.sums.iter().copied());
    }
    let calls = calls(matrix, entry);
    to_bytes(entry.importance().into_iter().map(|mean| mean * calls))
}

fn write_count(out: &mut Vec<u8>, count: usize, label: &str) -> Result<()> {
    let count = i32::try_from(count).map_err(|_| FormatError::Invalid {
        what: format!("{label} is {count}, more than the legacy format can hold"),
        hint: "write a GGUF",
    })?;
    count.append_to(out);
    Ok(())
}
