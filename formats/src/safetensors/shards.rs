//! Sets of shards that no index lists, found by their names `PREFIX-00001-of-00003.safetensors`, and folders with two
//! checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::TensorInfo;
use super::folder::{SINGLE, file_name};
use crate::error::{FormatError, Result, summary};

/// Shards that share a prefix and a count.
#[derive(Debug)]
pub(super) struct Set {
    /// Text before the number.
    pub(super) prefix: String,
    count: u64,
    /// Names of the shards by their number, from 1.
    names: BTreeMap<u64, String>,
    /// Number of digits that the numbers are written with.
    digits: usize,
}

/// A shard's name, split into its parts.
struct Name<'a> {
    prefix: &'a str,
    number: u64,
    count: u64,
    digits: usize,
}

/// Splits the name of a shard into its parts.
fn parse(name: &str) -> Option<Name<'_>> {
    let (rest, last) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (prefix, first) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|&n| plain && n > 0)
    };
    let (number, count) = (number(first)?, number(last)?);
    (number <= count && !prefix.is_empty()).then_some(Name { prefix, number, count, digits: first.len() })
}

/// Returns whether `name` is the name of a shard.
pub(super) fn is_shard(name: &str) -> bool {
    parse(name).is_some()
}

/// Groups the shards among `names`, which are sorted, by prefix, count and digits.
pub(super) fn sets(names: &[String]) -> Vec<Set> {
    let mut sets: BTreeMap<(&str, u64, usize), Set> = BTreeMap::new();
    for name in names {
        let Some(Name { prefix, number, count, digits }) = parse(name) else { continue };
        let set = sets.entry((prefix, count, digits)).or_insert_with(|| Set {
            prefix: prefix.to_owned(),
            count,
            names: BTreeMap::new(),
            digits,
        });
        set.names.insert(number, name.clone());
    }
    sets.into_values().collect()
}

impl Set {
    /// Returns the name of shard `number`.
    fn name(&self, number: u64) -> String {
        let (prefix, count, digits) = (&self.prefix, self.count, self.digits);
        format!("{prefix}-{number:0digits$}-of-{count:0digits$}.safetensors")
    }

    /// Returns the first and the last name, for messages.
    pub(super) fn pattern(&self) -> String {
        format!("{} to {}", self.name(1), self.name(self.count))
    }

    /// Returns the files of the set, in order of their numbers.
    ///
    /// # Errors
    /// Fails when a file is missing.
    pub(super) fn paths(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        const SHOWN: u64 = 100;
        let present = self.names.len() as u64;
        if present < self.count {
            let missing = (1..=self.count).filter(|number| !self.names.contains_key(number));
            let missing: Vec<String> = missing.take(SHOWN as usize).map(|number| self.name(number)).collect();
            let what = format!(
                "{} of {} shards are missing: {}",
                self.count - present,
                self.count,
                summary(&missing)
            );
            return Err(FormatError::malformed(folder, None, what, "fetch the missing files"));
        }
        Ok(self.names.values().map(|name| folder.join(name)).collect())
    }
}

/// Checks that no tensor is in two of the shards at `paths`, which no index lists.
pub(super) fn check_once(paths: &[PathBuf], tensors: &[TensorInfo]) -> Result<()> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for tensor in tensors {
        let Some(first) = seen.insert(&tensor.name, tensor.shard) else { continue };
        let [first, second] = [first, tensor.shard].map(|shard| paths.get(shard).map(|path| file_name(path)));
        let what = format!("tensor {:?} is in {} as well", tensor.name, first.or(second).unwrap_or_default());
        let path = paths.get(tensor.shard).map_or(Path::new(""), PathBuf::as_path);
        return Err(FormatError::malformed(path, None, what, "fetch the shards and their index again"));
    }
    Ok(())
}

/// Compares the single file of `folder`, which is used, with the shards called `rival` next to it. If a tensor of the shards
/// is missing in the file or has another shape there, the two are different models, and it is unknown which one is meant.
///
/// # Errors
/// Fails when they are different models.
pub(super) fn compare(
    folder: &Path,
    single: &[TensorInfo],
    rival: &str,
    shards: &[TensorInfo],
) -> Result<()> {
    let own: HashMap<&str, &TensorInfo> = single.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut problems = Vec::new();
    for shard in shards {
        match own.get(shard.name.as_str()) {
            None => problems.push(format!("{:?} is in the shards only", shard.name)),
            Some(t) if t.shape != shard.shape => {
                problems.push(format!("{:?} is {:?} and {:?}", shard.name, t.shape, shard.shape));
            }
            Some(_) => {}
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let what =
        format!("holds two different models, {SINGLE} and the shards of {rival}: {}", summary(&problems));
    Err(FormatError::malformed(
        folder,
        None,
        what,
        "give the file, or the index, that is meant, or move the other away",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_found_by_name() {
        let names: Vec<String> = [
            "a-b-00002-of-00002.safetensors",
            "a-b-00001-of-00002.safetensors",
            "model-1-of-3.safetensors",
            "model-00004-of-00003.safetensors",
            "model-00000-of-00003.safetensors",
            "model-+0001-of-00003.safetensors",
            "-00001-of-00003.safetensors",
            "model-00001-of-00003.bin",
            "model.safetensors",
        ]
        .map(str::to_owned)
        .to_vec();
        let sets = sets(&names);
        let found: Vec<_> = sets.iter().map(|s| (s.prefix.as_str(), s.count, s.names.len())).collect();
        assert_eq!(found, [("a-b", 2, 2), ("model", 3, 1)]);
        let paths = sets[0].paths(Path::new("f")).unwrap();
        assert_eq!(paths, [Path::new("f").join(&names[1]), Path::new("f").join(&names[0])]);
        let message = sets[1].paths(Path::new("f")).unwrap_err().to_string();
        assert!(
            message.contains("2 of 3 shards are missing: model-2-of-3.safetensors, model-3-of-3"),
            "{message}"
        );
    }

    #[test]
    fn an_absurd_count_costs_nothing() {
        let names = [format!("m-1-of-{}.safetensors", u64::MAX)];
        let message = sets(&names)[0].paths(Path::new("f")).unwrap_err().to_string();
        assert!(message.contains("are missing"), "{message}");
    }
}
