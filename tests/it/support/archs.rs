//! Folders of small checkpoints with random weights, one for each family and variant, which tests walk over.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the folders of the repository, or of the folder that KQUANT_ARCHS names: first those of families that are
/// supported, then those that `tests/data/archs-pending.txt` names, which must be refused. Embedding models, which have no logits, are
/// not among the first.
pub fn supported_and_pending() -> [Vec<PathBuf>; 2] {
    let [mut supported, pending] = all_and_pending();
    supported.retain(|folder| folder.join("logits.f32").exists());
    assert!(supported.len() > 3);
    [supported, pending]
}

/// Returns the folders of embedding models, which have states in the place of logits.
pub fn embedding_models() -> Vec<PathBuf> {
    let [mut supported, _] = all_and_pending();
    supported.retain(|folder| folder.join("hidden.f32").exists());
    assert!(supported.len() >= 5);
    supported
}

fn all_and_pending() -> [Vec<PathBuf>; 2] {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let list = fs::read_to_string(data.join("archs-pending.txt")).unwrap();
    let pending: Vec<&str> = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(": ").unwrap().0)
        .collect();
    assert!(pending.is_sorted(), "archs-pending.txt: one line for each folder, in alphabetical order");
    let root = std::env::var_os("KQUANT_ARCHS").map_or_else(|| data.join("archs"), PathBuf::from);
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|f| f.unwrap().path()).collect();
    folders.sort();
    let is_pending = |folder: &PathBuf| pending.contains(&folder.file_name().unwrap().to_str().unwrap());
    let (pending, supported): (Vec<_>, Vec<_>) = folders.into_iter().partition(is_pending);
    [supported, pending]
}
