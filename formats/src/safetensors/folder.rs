//! Discovery of the files of a checkpoint, with checks that all are there.
//!
//! In a folder, files are looked for in the order of transformers: `model.safetensors`, then the shards that
//! `model.safetensors.index.json` lists, then files of other names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::TensorInfo;
use super::shards;
use crate::error::{DAMAGED, FormatError, Result, summary};
use crate::json;
use crate::whole;

pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const SINGLE: &str = "model.safetensors";

/// The files of a checkpoint and the index that lists them.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Paths in the order of their names, or of their numbers where no index lists them.
    pub(super) paths: Vec<PathBuf>,
    pub(super) index: Option<Index>,
    /// Shards that could be meant instead of the single file.
    pub(super) rival: Option<Rival>,
    /// Remarks for the user that are no faults.
    pub(super) notes: Vec<String>,
}

/// Shards in the folder of a single file that is used instead of them.
#[derive(Debug)]
pub(super) struct Rival {
    /// Name of the shards in messages: the index, or a pattern of their names.
    pub(super) name: String,
    /// Paths of the shards, or the reason why they are no checkpoint.
    pub(super) paths: Result<Vec<PathBuf>>,
}

/// `model.safetensors.index.json`, which lists the file of each tensor.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct IndexJson {
    weight_map: BTreeMap<String, String>,
}

/// Finds the files of `path`, which is a folder, an index or one safetensors file.
pub(super) fn find(path: &Path) -> Result<Files> {
    if path.is_file() {
        return if path.extension().is_some_and(|e| e == "json") { indexed(path) } else { Ok(single(path)) };
    }
    let kind = fs::metadata(path).map_err(|e| FormatError::io(path, "open", e))?;
    if !kind.is_dir() {
        return Ok(single(path)); // Mapping the path will fail with the reason.
    }
    let names = names(path)?;
    if path.join(SINGLE).exists() {
        return Ok(Files { rival: rival(path, &names), ..single(&path.join(SINGLE)) });
    }
    if path.join(INDEX).exists() {
        return indexed(&path.join(INDEX));
    }
    unlisted(path, &names)
}

fn single(path: &Path) -> Files {
    Files { paths: vec![path.to_owned()], ..Files::default() }
}

/// Returns the names of the files of `folder`, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let io = |e| FormatError::io(folder, "list", e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Returns the shards that lie in `folder` next to its single file.
fn rival(folder: &Path, names: &[String]) -> Option<Rival> {
    let index = folder.join(INDEX);
    if index.exists() {
        return Some(Rival { name: INDEX.into(), paths: indexed(&index).map(|files| files.paths) });
    }
    let set = shards::sets(names).into_iter().find(|set| set.prefix == "model")?;
    Some(Rival { name: set.pattern(), paths: set.paths(folder) })
}

/// Finds the one checkpoint of another name that `folder` may hold: a file, or all shards of a set that no index lists.
fn unlisted(folder: &Path, names: &[String]) -> Result<Files> {
    let sets = shards::sets(names);
    // Other files next to the shards of a model do not belong to it, as they would not with an index.
    let sets = match sets.iter().position(|set| set.prefix == "model") {
        Some(at) => sets.into_iter().skip(at).take(1).collect(),
        None => sets,
    };
    let model = matches!(sets.as_slice(), [set] if set.prefix == "model");
    let is_safetensors = |name: &&String| name.ends_with(".safetensors");
    let others: Vec<&String> =
        names.iter().filter(is_safetensors).filter(|name| !model && !shards::is_shard(name)).collect();
    match (sets.as_slice(), others.as_slice()) {
        ([set], []) => {
            let note = format!(
                "there is no {INDEX}: the checkpoint is taken to be {}, of which all files are there",
                set.pattern()
            );
            Ok(Files { paths: set.paths(folder)?, notes: vec![note], ..Files::default() })
        }
        ([], [name]) => Ok(single(&folder.join(name))),
        ([], []) => {
            let what = match names.is_empty() {
                true => "is an empty folder".into(),
                false => format!("has no safetensors file, only {}", summary(names)),
            };
            Err(FormatError::malformed(folder, None, what, "give the folder of a model's safetensors files"))
        }
        _ => {
            let found: Vec<String> = names.iter().filter(is_safetensors).cloned().collect();
            let what = format!(
                "has {} safetensors files but neither {SINGLE} nor {INDEX}: {}",
                found.len(),
                summary(&found)
            );
            Err(FormatError::malformed(folder, None, what, "fetch the index, or give one of the files"))
        }
    }
}

/// Returns the files that the index at `path` lists, all of which must lie in its folder.
fn indexed(path: &Path) -> Result<Files> {
    const HINT: &str = "fetch the index and its files again";
    let parsed: IndexJson = json::parse(&whole::read(path, whole::LIST)?)
        .map_err(|e| FormatError::malformed(path, None, format!("is no index of weights: {e}"), DAMAGED))?;
    let index = Index { path: path.to_owned(), weight_map: parsed.weight_map };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    let mut problems = Vec::new();
    let mut tensors_of: BTreeMap<&str, usize> = BTreeMap::new();
    for name in index.weight_map.values() {
        *tensors_of.entry(name).or_default() += 1;
    }
    for (name, tensors) in tensors_of {
        let inside = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        let file = folder.join(name);
        if !inside || name.is_empty() {
            problems.push(format!("{name:?} does not lie in the index's folder"));
        } else if !file.exists() {
            problems.push(format!("{name} is missing ({tensors} tensors)"));
        }
        paths.push(file);
    }
    if paths.is_empty() {
        problems.push("it lists no tensors".into());
    }
    if !problems.is_empty() {
        let what = format!("lists files that cannot be opened: {}", summary(&problems));
        return Err(FormatError::malformed(path, None, what, HINT));
    }
    Ok(Files { paths, index: Some(index), ..Files::default() })
}

impl Index {
    /// Checks that the shards at `paths` hold exactly the tensors that the index lists, each in its file.
    pub(super) fn check(&self, paths: &[PathBuf], tensors: &[TensorInfo]) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut listed: BTreeSet<(PathBuf, &str)> =
            self.weight_map.iter().map(|(name, file)| (folder.join(file), name.as_str())).collect();
        let mut problems = Vec::new();
        for tensor in tensors {
            let Some(path) = paths.get(tensor.shard) else { continue };
            if !listed.remove(&(path.clone(), tensor.name.as_str())) {
                let place = match self.weight_map.get(&tensor.name) {
                    Some(file) => format!("in {file}"),
                    None => "nowhere".into(),
                };
                problems.push(format!("{:?} is in {} but listed {place}", tensor.name, file_name(path)));
            }
        }
        problems.extend(listed.iter().map(|(path, name)| format!("{name:?} is not in {}", file_name(path))));
        if problems.is_empty() {
            return Ok(());
        }
        let what = format!("disagrees with its files: {}", summary(&problems));
        Err(FormatError::malformed(&self.path, None, what, "fetch the index and its files again"))
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
