//! What lies beside a part: of which run it is, and its hashes.

use std::path::Path;

use kquant_formats::{json, whole};

use super::{PartsError, record_path};
use crate::hash::{Digest, Manifest, file_sha256};

/// What is at the place of a part.
#[derive(Debug)]
pub enum PartState {
    /// There is no complete part.
    Absent,
    /// The part is there, of the same run, and is what its record says.
    Complete(Box<Digest>),
    /// The part is of the same run, but its file is not what was written.
    Damaged,
}

/// Returns what is at `part`, where a part of the run that `run` describes belongs. A file that is there is read whole.
///
/// # Errors
/// [`PartsError::OtherRun`] when the part is of another run; also when a file cannot be read or the record is not one.
pub fn state(part: &Path, run: &Manifest) -> Result<PartState, PartsError> {
    if !part.exists() {
        return Ok(PartState::Absent);
    }
    let Some((record, digest)) = read(part)? else { return Ok(PartState::Absent) };
    if let Some(what) = difference(&record, run) {
        return Err(PartsError::OtherRun { path: part.to_owned(), other: "this one".into(), what });
    }
    let (sha256, bytes) = file_sha256(part).map_err(|e| kquant_formats::FormatError::io(part, "read", e))?;
    let same = sha256 == digest.sha256 && bytes == digest.bytes;
    Ok(if same { PartState::Complete(Box::new(digest)) } else { PartState::Damaged })
}

/// Reads the record of the part at `part`, and the hashes in it; `None` if there is no record.
pub(super) fn read(part: &Path) -> Result<Option<(Manifest, Digest)>, PartsError> {
    let path = record_path(part);
    let Some(bytes) = whole::read_if_there(&path, whole::LIST)? else { return Ok(None) };
    let fault = |what| PartsError::Record { path: path.clone(), what };
    let mut record: Manifest = json::parse(&bytes).map_err(|e| fault(e.to_string()))?;
    match (record.files.pop(), record.files.len()) {
        (Some(digest), 0) => Ok(Some((record, digest))),
        _ => Err(fault("it lists no file, or several".into())),
    }
}

/// Returns what differs between two runs, but for the files that they wrote.
pub(super) fn difference(one: &Manifest, other: &Manifest) -> Option<String> {
    if one.kquant != other.kquant {
        return Some(format!("kquant {} and {}", one.kquant, other.kquant));
    }
    let of_options = || {
        let (one, other) = (one.options.as_object()?, other.options.as_object()?);
        one.keys().chain(other.keys()).find(|key| one.get(*key) != other.get(*key)).cloned()
    };
    if one.options != other.options {
        return Some(format!("`{}` differs", of_options().unwrap_or_else(|| "options".into())));
    }
    if one.sources != other.sources {
        return Some("the source files differ".into());
    }
    (one.plan_sha256 != other.plan_sha256).then(|| "the types or the metadata differ".into())
}
