//! One file out of all parts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::slice;

use kquant_formats::FormatError;
use kquant_formats::gguf::Gguf;
use kquant_formats::gguf::split::parse_shard_path;
use kquant_formats::partial::PartialFile;

use super::record::{difference, read};
use super::{PREFIX, PartsError, part_path};
use crate::checkpoint::type_layout;
use crate::context::Context;
use crate::hash::{Digest, TensorDigest, bytes_sha256};
use crate::shards::{self, ShardPlan};

/// Numbers of missing parts that an error lists.
const LISTED: usize = 8;

/// All parts of a run, each with a record, of the same run and of the right size.
struct Parts {
    paths: Vec<PathBuf>,
    digests: Vec<Digest>,
    gguf: Gguf,
}

/// Makes the file `out` of the parts in `folder`: the bytes that one run would have written. An existing file is replaced only if
/// `force` is set. Parts are copied a piece at a time and compared with their records; returns the hashes of the file.
///
/// # Errors
/// Fails when a part is missing, of another run or not what its record says, when a file cannot be read or written, or when the
/// run is stopped.
pub fn assemble(folder: &Path, out: &Path, force: bool, run: &Context) -> Result<Digest, PartsError> {
    let parts = Parts::open(folder)?;
    parts.check_headers()?;
    let plan = shards::joined(&parts.gguf)?;
    let (files, mut digests) =
        shards::copy(&parts.gguf, slice::from_ref(&plan), &[out.to_owned()], force, run)?;
    let digest = digests.pop().ok_or_else(|| PartsError::None(folder.to_owned()))?;
    parts.check_tensors(&plan, &digest.tensors)?;
    PartialFile::finish_all(files)?;
    Ok(digest)
}

impl Parts {
    fn open(folder: &Path) -> Result<Self, PartsError> {
        let count = count(folder)?;
        let paths: Vec<PathBuf> = (0..count).map(|no| part_path(folder, no, count)).collect();
        let mut records = Vec::new();
        let mut missing = Vec::new();
        for (no, path) in (1..).zip(&paths) {
            match read(path)?.filter(|_| path.exists()) {
                Some(found) => records.push(found),
                None => missing.push(no),
            }
        }
        if let Some(&first) = missing.first() {
            let (folder, list) = (folder.to_owned(), listed(&missing));
            return Err(PartsError::Missing { folder, missing: missing.len(), count, list, first });
        }
        let mut digests: Vec<Digest> = Vec::new();
        let mut first = None;
        for (path, (record, digest)) in paths.iter().zip(records) {
            let first = &*first.get_or_insert_with(|| record.clone());
            if let Some(what) = difference(&record, first) {
                let other = format!("part 1 of {count}");
                return Err(PartsError::OtherRun { path: path.clone(), other, what });
            }
            let bytes = fs::metadata(path).map_err(|e| FormatError::io(path, "read", e))?.len();
            if bytes != digest.bytes {
                let what = format!("{bytes} bytes, {} were written", digest.bytes);
                return Err(PartsError::Damaged { path: path.clone(), what });
            }
            digests.push(digest);
        }
        let gguf = Gguf::open(&part_path(folder, 0, count), type_layout)?;
        Ok(Self { paths, digests, gguf })
    }

    /// Compares keys, names, shapes and types with the records, before anything is copied.
    fn check_headers(&self) -> Result<(), PartsError> {
        for (shard, (path, digest)) in self.paths.iter().zip(&self.digests).enumerate() {
            if bytes_sha256(&self.gguf.header_bytes(shard)?) != digest.metadata_sha256 {
                return Err(PartsError::Damaged { path: path.clone(), what: "its metadata".into() });
            }
        }
        Ok(())
    }

    /// Compares the tensors that were copied, those of `plan`, with the records.
    fn check_tensors(&self, plan: &ShardPlan, copied: &[TensorDigest]) -> Result<(), PartsError> {
        let recorded = self.digests.iter().flat_map(|digest| &digest.tensors);
        let expected: BTreeMap<&str, &TensorDigest> = recorded.map(|t| (t.name.as_str(), t)).collect();
        let tensors = self.gguf.tensors().get(plan.tensors.clone()).unwrap_or_default();
        for (tensor, copied) in tensors.iter().zip(copied) {
            if expected.get(copied.name.as_str()) != Some(&copied) {
                let path = self.paths.get(tensor.shard).cloned().unwrap_or_default();
                return Err(PartsError::Damaged { path, what: format!("its tensor {:?}", tensor.name) });
            }
        }
        Ok(())
    }
}

/// Returns the number of parts that those in `folder` are of.
fn count(folder: &Path) -> Result<u16, PartsError> {
    let fault = |e| FormatError::io(folder, "list", e);
    let mut found = None;
    for entry in fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let Some((prefix, _, count)) = parse_shard_path(&path) else { continue };
        if prefix.file_name().is_none_or(|name| name != PREFIX) {
            continue;
        }
        let before = *found.get_or_insert(count);
        if before != count {
            let (first, second) = (before.min(count), before.max(count));
            return Err(PartsError::Divisions { folder: folder.to_owned(), first, second });
        }
    }
    found.ok_or_else(|| PartsError::None(folder.to_owned()))
}

fn listed(numbers: &[u16]) -> String {
    let some: Vec<String> = numbers.iter().take(LISTED).map(u16::to_string).collect();
    let more = numbers.len().saturating_sub(LISTED);
    match more {
        0 => some.join(", "),
        _ => format!("{} and {more} more", some.join(", ")),
    }
}
