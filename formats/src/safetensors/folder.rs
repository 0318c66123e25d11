//! Which files make up a checkpoint, and whether they are all there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::TensorInfo;
use crate::error::{DAMAGED, FormatError, Result, summary};
use crate::map::Mapped;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// The files of a checkpoint, and the index that lists them.
pub(super) struct Files {
    /// In order of their names.
    pub(super) paths: Vec<PathBuf>,
    pub(super) index: Option<Index>,
}

/// `model.safetensors.index.json`: which tensor is in which file.
pub(super) struct Index {
    path: PathBuf,
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct IndexJson {
    weight_map: BTreeMap<String, String>,
}

/// Finds the files of `path`: a folder, its index, or one safetensors file.
pub(super) fn find(path: &Path) -> Result<Files> {
    if path.is_file() {
        return if path.extension().is_some_and(|e| e == "json") { indexed(path) } else { Ok(single(path)) };
    }
    let kind = fs::metadata(path).map_err(|e| FormatError::io(path, "open", e))?;
    if !kind.is_dir() {
        return Ok(single(path)); // To be refused with the reason when it is mapped.
    }
    if path.join(INDEX).exists() {
        return indexed(&path.join(INDEX));
    }
    if path.join(SINGLE).exists() {
        return Ok(single(&path.join(SINGLE)));
    }
    only_one(path)
}

fn single(path: &Path) -> Files {
    Files { paths: vec![path.to_owned()], index: None }
}

/// The one file of another name that `folder` may hold.
fn only_one(folder: &Path) -> Result<Files> {
    let io = |e| FormatError::io(folder, "list", e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let found: Vec<String> = names.iter().filter(|n| n.ends_with(".safetensors")).cloned().collect();
    match found.as_slice() {
        [name] => Ok(single(&folder.join(name))),
        [] => {
            let what = match names.is_empty() {
                true => "is an empty folder".into(),
                false => format!("has no safetensors file, only {}", summary(&names)),
            };
            Err(FormatError::malformed(folder, None, what, "give the folder of a model's safetensors files"))
        }
        _ => {
            let what = format!("has {} safetensors files but no {INDEX}: {}", found.len(), summary(&found));
            Err(FormatError::malformed(folder, None, what, "fetch the index, or give one of the files"))
        }
    }
}

/// The files that the index at `path` names, all of which must lie beside it.
fn indexed(path: &Path) -> Result<Files> {
    const HINT: &str = "fetch the index and its files again";
    let map = Mapped::open(path)?;
    let json: IndexJson = serde_json::from_slice(map.bytes())
        .map_err(|e| FormatError::malformed(path, None, format!("is no index of weights: {e}"), DAMAGED))?;
    let index = Index { path: path.to_owned(), weight_map: json.weight_map };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    let mut problems = Vec::new();
    for name in index.weight_map.values().collect::<BTreeSet<_>>() {
        let inside = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        let file = folder.join(name);
        if !inside || name.is_empty() {
            problems.push(format!("{name:?} does not lie in the index's folder"));
        } else if !file.exists() {
            let tensors = index.weight_map.values().filter(|v| *v == name).count();
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
    Ok(Files { paths, index: Some(index) })
}

impl Index {
    /// Checks that the shards at `paths` hold exactly the tensors that the index lists, each where it says.
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

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
