//! Models that are split over several files, which are called `PREFIX-00001-of-00003.gguf` and tied together by keys.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::file::Shard;
use super::rules::{ALIGNMENT, DEFAULT_ALIGNMENT};
use super::tensors::TypeTable;
use super::value::Metadata;
use crate::error::{FormatError, Result, summary};

/// Key of a shard's index, from 0 (`u16`).
pub const NO: &str = "split.no";
/// Key of the number of shards (`u16`).
pub const COUNT: &str = "split.count";
/// Key of the number of tensors in all shards together (`i32`).
pub const TENSORS: &str = "split.tensors.count";

/// Returns the path of shard `no` (from 0) of `count`: `PREFIX-00001-of-00003.gguf`.
pub fn shard_path(prefix: &Path, no: u16, count: u16) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!("-{:05}-of-{count:05}.gguf", u32::from(no) + 1));
    name.into()
}

/// Splits `PREFIX-00001-of-00003.gguf` into the prefix, the shard's index from 0 and the number of shards.
pub fn parse_shard_path(path: &Path) -> Option<(PathBuf, u16, u16)> {
    let (rest, count) = path.file_name()?.to_str()?.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|&n| plain && n > 0)
    };
    let (no, count) = (number(no)?, number(count)?);
    (no <= count && !prefix.is_empty()).then(|| (path.with_file_name(prefix), no - 1, count))
}

/// Returns the prefix of the shards' names for an output called `path`: without `.gguf` and without a shard's number.
pub fn prefix(path: &Path) -> PathBuf {
    if let Some((prefix, ..)) = parse_shard_path(path) {
        return prefix;
    }
    // Only this extension: what follows another dot belongs to the name, as in `Llama-3.2-1B`.
    if path.extension().is_some_and(|e| e == "gguf") { path.with_extension("") } else { path.to_owned() }
}

/// Returns the keys, besides those of the split, of the files after the first, whose keys are `first`: only what a reader of that
/// file alone needs, which is the alignment where it is not that of a file without keys.
pub fn follower_keys(first: &Metadata) -> Metadata {
    let mut keys = Metadata::new();
    if let Some(alignment) = first.get(ALIGNMENT).filter(|a| a.as_u64() != Some(DEFAULT_ALIGNMENT)) {
        keys.set(ALIGNMENT, alignment.clone());
    }
    keys
}

/// Returns the number of shards that `metadata` states; 1 for a file that stands alone.
///
/// # Errors
/// Fails when the key is there but is no number that can count files.
fn count(path: &Path, metadata: &Metadata) -> Result<u16> {
    Ok(number(path, metadata, COUNT)?.unwrap_or(1).max(1))
}

/// Returns the 16-bit number at `key`, if the key is there.
fn number(path: &Path, metadata: &Metadata, key: &str) -> Result<Option<u16>> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let number = value.as_u64().and_then(|n| u16::try_from(n).ok());
    number.map(Some).ok_or_else(|| {
        let what = format!("{key} ({}) is no number between 0 and {}", value.type_name(), u16::MAX);
        FormatError::malformed(path, None, what, "split the model again")
    })
}

/// Opens every shard of the model that `any` belongs to, in order; only `any` if it stands alone.
pub(super) fn open_all(any: Shard, types: TypeTable) -> Result<Vec<Shard>> {
    let given = any.file.path().to_owned();
    let fault = |what: String, hint| FormatError::malformed(&given, None, what, hint);
    let count = count(&given, &any.metadata)?;
    if count == 1 {
        return Ok(vec![any]);
    }
    check_alone(&any, count)?;
    let Some((prefix, _, named)) = parse_shard_path(&given) else {
        let what =
            format!("is one of {count} shards, but its name does not end in -00001-of-{count:05}.gguf");
        return Err(fault(what, "give all shards the names they had"));
    };
    if named != count {
        let what = format!("is named as one of {named} shards, but {COUNT} is {count}");
        return Err(fault(what, "give all shards the names they had"));
    }
    let paths: Vec<PathBuf> = (0..count).map(|no| shard_path(&prefix, no, count)).collect();
    let missing: Vec<String> = paths
        .iter()
        .filter(|p| !p.exists())
        .map(|p| p.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    if !missing.is_empty() {
        let what =
            format!("{} of {count} shards are missing beside it: {}", missing.len(), summary(&missing));
        return Err(fault(what, "fetch the missing files"));
    }
    let shards =
        (0..).zip(&paths).map(|(no, path)| open_one(path, no, count, types)).collect::<Result<_>>()?;
    check_tensors(&shards)?;
    Ok(shards)
}

/// Refuses shards that were joined byte after byte, of which only the first one's tensors would be found.
fn check_alone(shard: &Shard, count: u16) -> Result<()> {
    match shard.follower()? {
        None => Ok(()),
        Some(at) => {
            let what = format!(
                "another GGUF begins here: the model's {count} shards were joined with `cat` or the like"
            );
            const HINT: &str =
                "give the shards as they were, of which any opens all; kquant merge makes one file";
            Err(FormatError::malformed(shard.file.path(), at, what, HINT))
        }
    }
}

fn open_one(path: &Path, no: u16, expected: u16, types: TypeTable) -> Result<Shard> {
    const HINT: &str = "fetch this shard again";
    let shard = Shard::open(path, types, no.into())?;
    check_alone(&shard, expected)?;
    let found = count(path, &shard.metadata)?;
    if found != expected {
        let what = format!("{COUNT} is {found}, but {expected} in the other shards");
        return Err(FormatError::malformed(path, None, what, HINT));
    }
    match number(path, &shard.metadata, NO)? {
        Some(found) if found == no => Ok(shard),
        Some(found) => {
            let what =
                format!("{NO} is {found}, but {no} is expected of this name: a copy of another shard?");
            Err(FormatError::malformed(path, None, what, HINT))
        }
        None => Err(FormatError::malformed(path, None, format!("the key {NO} is missing"), HINT)),
    }
}

fn check_tensors(shards: &Vec<Shard>) -> Result<()> {
    let mut seen = HashSet::new();
    for shard in shards {
        for tensor in &shard.tensors {
            if !seen.insert(tensor.name.as_str()) {
                let what = format!("the tensor {:?} is in an earlier shard as well", tensor.name);
                return Err(FormatError::malformed(shard.file.path(), None, what, "fetch all shards again"));
            }
        }
    }
    for shard in shards {
        // Not every tool writes the key into every shard.
        if let Some(claimed) = shard.metadata.get(TENSORS)
            && claimed.as_u64() != Some(seen.len() as u64)
        {
            let what = format!("{TENSORS} is {claimed:?}, but the shards hold {} tensors", seen.len());
            return Err(FormatError::malformed(shard.file.path(), None, what, "fetch all shards again"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let path = shard_path(Path::new("models/x-of-y"), 9, 12);
        assert_eq!(path, Path::new("models/x-of-y-00010-of-00012.gguf"));
        assert_eq!(parse_shard_path(&path), Some((PathBuf::from("models/x-of-y"), 9, 12)));
    }

    #[test]
    fn outputs_give_their_names_to_shards() {
        for (output, expected) in [
            ("a/m-00002-of-00003.gguf", "a/m"),
            ("a/Llama-3.2-1B.gguf", "a/Llama-3.2-1B"),
            ("a/Llama-3.2-1B", "a/Llama-3.2-1B"),
        ] {
            assert_eq!(prefix(Path::new(output)), Path::new(expected));
        }
    }

    #[test]
    fn other_names_are_no_shards() {
        for name in [
            "model.gguf",
            "m-00000-of-00002.gguf",
            "m-00003-of-00002.gguf",
            "m-1-of-2.gguf",
            "m-+0001-of-00002.gguf",
            "-00001-of-00002.gguf",
            "m-00001-of-00002.bin",
            "m-00001-of-99999.gguf",
        ] {
            assert_eq!(parse_shard_path(Path::new(name)), None, "{name}");
        }
    }
}
