//! Addition of several importance matrices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kquant_formats::imatrix::{Entry, Imatrix};

/// The sum of several importance matrices.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The sum, which is the same to the last bit for any order of the files.
    pub matrix: Imatrix,
    /// Sentences for the user, on files that lack entries which others have.
    pub notes: Vec<String>,
}

/// The reason why importance matrices cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The files were made with chunks of different sizes.
    #[error(
        "{} has chunks of {} tokens, {} of {}: with different contexts a model acts differently. \
         If that is what you want, say with --chunk-size what the result shall be called",
        .first.0.display(), .first.1, .second.0.display(), .second.1
    )]
    ChunkSizes {
        /// One file and its tokens per chunk.
        first: (PathBuf, u32),
        /// Another file and its tokens per chunk.
        second: (PathBuf, u32),
    },
    /// A legacy file, which counts chunks, is to be added to files that count tokens.
    #[error(
        "{}: the legacy form does not tell its tokens per chunk, by which it is weighed against the others; give --chunk-size",
        .0.display()
    )]
    UnknownChunkSize(PathBuf),
    /// An entry has different shapes in two files.
    #[error(
        "{}: entry `{entry}` has {} matrices of {} columns, {} in {}; the files are of different models",
        .file.display(), .found[0], .found[1], Shape(.expected), .other.display()
    )]
    Shape {
        /// Name of the entry.
        entry: String,
        /// The file with the shape `found`.
        file: PathBuf,
        /// Numbers of matrices and columns in `file`.
        found: [usize; 2],
        /// The file with the shape `expected`.
        other: PathBuf,
        /// Numbers of matrices and columns in `other`.
        expected: [usize; 2],
    },
}

struct Shape<'a>(&'a [usize; 2]);

impl std::fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.0[0], self.0[1])
    }
}

/// An entry of one file, and the number of tokens that each of its counts stands for.
struct Part<'a> {
    path: &'a PathBuf,
    entry: &'a Entry,
    unit: u32,
}

/// Adds `files`; the result has every entry that any of them has.
///
/// Sums and counts are added as they are. Those of legacy files, which are in chunks, are first multiplied by
/// `chunk_size`, which is needed if there are other files as well; legacy files alone can stay in chunks. The result's
/// chunk size is `chunk_size` or, by default, the one that all files give.
///
/// # Errors
/// Fails when files differ in their chunk size and none is given, a legacy file needs one, or an entry's shape differs.
pub fn merge(files: &[(PathBuf, Imatrix)], chunk_size: Option<u32>) -> Result<Merged, MergeError> {
    let size = common_chunk_size(files, chunk_size)?;
    let unit = |matrix: &Imatrix| matrix.chunk_size.map_or(size.unwrap_or(1), |_| 1);
    let mut parts: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
    for (path, matrix) in files {
        for (name, entry) in &matrix.entries {
            parts.entry(name).or_default().push(Part { path, entry, unit: unit(matrix) });
        }
    }
    let notes = files.iter().filter_map(|(path, matrix)| {
        let lacking: Vec<&str> =
            parts.keys().copied().filter(|&name| !matrix.entries.contains_key(name)).collect();
        let first = lacking.first()?;
        let (n, all, path) = (lacking.len(), parts.len(), path.display());
        Some(format!(
            "{path} has nothing on {n} of {all} tensors, {first} first; the others' data stand for those"
        ))
    });
    let notes = notes.collect();
    let entries = parts.iter().map(|(&name, parts)| Ok((name.to_owned(), add(name, parts)?)));
    let datasets: BTreeSet<&String> = files.iter().flat_map(|(_, m)| &m.datasets).collect();
    let matrix = Imatrix {
        entries: entries.collect::<Result<_, _>>()?,
        datasets: datasets.into_iter().cloned().collect(),
        chunk_count: chunks(files, size),
        chunk_size: size,
    };
    Ok(Merged { matrix, notes })
}

/// Returns the result's number of tokens per chunk; `None` for legacy files alone.
fn common_chunk_size(files: &[(PathBuf, Imatrix)], given: Option<u32>) -> Result<Option<u32>, MergeError> {
    if given.is_some() {
        return Ok(given);
    }
    let mut known = files.iter().filter_map(|(path, m)| Some((path.clone(), m.chunk_size?)));
    let Some(first) = known.next() else { return Ok(None) };
    if let Some(second) = known.find(|(_, size)| *size != first.1) {
        return Err(MergeError::ChunkSizes { first, second });
    }
    match files.iter().find(|(_, m)| m.chunk_size.is_none()) {
        Some((path, _)) => Err(MergeError::UnknownChunkSize(path.clone())),
        None => Ok(Some(first.1)),
    }
}

/// Returns the number of chunks of `size` tokens that all files together have seen, if all give their number.
fn chunks(files: &[(PathBuf, Imatrix)], size: Option<u32>) -> Option<u32> {
    let size = size.unwrap_or(1).max(1);
    let tokens = files.iter().map(|(_, m)| {
        let own = m.chunk_size.unwrap_or(size);
        Some(u64::from(m.chunk_count?) * u64::from(own))
    });
    let total = tokens.sum::<Option<u64>>()?;
    u32::try_from(total / u64::from(size)).ok()
}

/// Adds the parts of one entry.
fn add(name: &str, parts: &[Part]) -> Result<Entry, MergeError> {
    // The legacy form stores the matrices of all experts as one, whose count holds for each of them.
    let (mut matrices, mut columns, mut like) = (0, 0, None);
    for part in parts {
        if part.entry.matrices > matrices {
            (matrices, columns, like) = (part.entry.matrices, part.entry.columns, Some(part));
        }
    }
    let fits = |e: &Entry| {
        (e.sums.len(), e.counts.len()) == (matrices * columns, e.matrices)
            && [1, matrices].contains(&e.matrices)
    };
    if let (Some(odd), Some(like)) = (parts.iter().find(|part| !fits(part.entry)), like) {
        return Err(MergeError::Shape {
            entry: name.to_owned(),
            file: odd.path.clone(),
            found: [odd.entry.matrices, odd.entry.columns],
            other: like.path.clone(),
            expected: [matrices, columns],
        });
    }
    let sums = total(parts, matrices * columns, |entry, i| entry.sums[i]);
    let counts = total(parts, matrices, |entry, i| entry.counts[if entry.matrices == 1 { 0 } else { i }]);
    Ok(Entry { columns, matrices, sums, counts })
}

/// Returns the `n` sums over the parts of `value`. Addends are sorted, so that their order cannot affect the last bit.
fn total(parts: &[Part], n: usize, value: impl Fn(&Entry, usize) -> f32) -> Vec<f32> {
    let mut addends = Vec::with_capacity(parts.len());
    let sum = |i| {
        addends.clear();
        addends.extend(parts.iter().map(|part| f64::from(value(part.entry, i)) * f64::from(part.unit)));
        addends.sort_unstable_by(f64::total_cmp);
        addends.iter().sum::<f64>() as f32
    };
    (0..n).map(sum).collect()
}

#[cfg(test)]
mod tests;
