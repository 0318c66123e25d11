//! The legacy format: a count, then per entry name, calls, length and values; then chunks and the text's name.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, Imatrix, check_numbers};
use crate::cursor::Cursor;
use crate::error::{DAMAGED, FormatError, Result};

// A name's length, one byte of it, calls, length, one value.
const MIN_ENTRY_BYTES: u64 = 4 + 1 + 4 + 4 + 4;

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Imatrix> {
    let c = &mut Cursor::new(path, bytes);
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
    // Files of early 2024 end here.
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
    if name.is_empty() || name.contains('\0') {
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
    // llama-quantize takes the values of an entry without calls as they are: as if there had been one.
    let entry = Entry { columns: sums.len(), matrices: 1, sums, counts: vec![calls.max(1) as f32] };
    Ok((name.to_owned(), entry))
}

/// Counts and lengths are i32 on disk; none can be negative.
fn read_count(c: &mut Cursor, label: &str) -> Result<u64> {
    let at = c.clone();
    let count: i32 = c.number(&label)?;
    u64::try_from(count).map_err(|_| at.malformed(format!("{label} is {count}"), DAMAGED))
}
