//! Models by their published names, where they are in Hugging Face's cache already. Nothing is downloaded.
//!
//! The cache keeps a model in `models--ORGANIZATION--NAME`: `refs/main` has the commit that was downloaded last, and
//! `snapshots/COMMIT` its files ([documentation]).
//!
//! [documentation]: https://huggingface.co/docs/huggingface_hub/guides/manage-cache

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The path that a MODEL argument stands for: itself, or the snapshot of a published name in the cache.
pub(super) fn model(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    // What exists is what it is, also where a model has the same name.
    if path.symlink_metadata().is_ok() || !is_name(text) {
        return Ok(path);
    }
    match cache(|name| env::var_os(name)).map(|cache| cache.join(folder(text))) {
        Some(folder) if folder.is_dir() => snapshot(&folder),
        // The command says that there is no such file.
        _ => Ok(path),
    }
}

/// Returns true for `NAME` and `ORGANIZATION/NAME`.
fn is_name(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let is_part = |part: &&str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    parts.len() <= 2 && parts.iter().all(is_part)
}

fn folder(name: &str) -> String {
    format!("models--{}", name.replace('/', "--"))
}

/// Returns the folder of the cache, by the variables that Hugging Face's library reads.
fn cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("HF_HUB_CACHE")
        .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(path("HF_HOME")?.join("hub")))
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(path("HOME").or_else(|| path("USERPROFILE"))?.join(".cache/huggingface/hub")))
}

/// Returns the snapshot in the model's folder `folder`: that of `refs/main`, or the only one.
fn snapshot(folder: &Path) -> Result<PathBuf, String> {
    let snapshots = folder.join("snapshots");
    if let Ok(commit) = fs::read_to_string(folder.join("refs").join("main")) {
        let named = snapshots.join(commit.trim());
        if !commit.trim().is_empty() && named.is_dir() {
            return Ok(named);
        }
    }
    let all: Vec<PathBuf> = fs::read_dir(&snapshots)
        .map(|entries| {
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect()
        })
        .unwrap_or_default();
    match &all[..] {
        [only] => Ok(only.clone()),
        [] => Err(format!("is in the cache without files: {}; download it again", folder.display())),
        several => Err(format!(
            "is in the cache in {} revisions, of which none is main: give the path of one in {}",
            several.len(),
            snapshots.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_library_keeps_it() {
        let set = |pairs: &'static [(&str, &str)]| {
            cache(move |name| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            })
        };
        for (variables, expected) in [
            (&[("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b"), ("HOME", "/h")][..], "/a"),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/b"), ("HOME", "/h")], "/b/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], "/x/huggingface/hub"),
            (&[("HOME", "/h")], "/h/.cache/huggingface/hub"),
        ] {
            assert_eq!(set(variables), Some(PathBuf::from(expected)));
        }
        assert_eq!(set(&[]), None);
    }

    #[test]
    fn names_are_told_from_paths() {
        assert!(["gpt2", "Qwen/Qwen3-0.6B", "a_b/c.d"].into_iter().all(is_name));
        for path in ["", "./model", "../a", "/a/b", "a/b/c", "a//b", "a/", ".cache/x", "a b/c", "a/b\u{0}"] {
            assert!(!is_name(path), "{path}");
        }
    }

    #[test]
    fn the_snapshot_of_main_is_taken_or_the_only_one() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join(folder("some-lab/Fir-1B"));
        assert!(model.ends_with("models--some-lab--Fir-1B"));
        assert!(snapshot(&model).unwrap_err().contains("without files"));
        let commit = |name: &str| model.join("snapshots").join(name);
        fs::create_dir_all(commit("aaa")).unwrap();
        assert_eq!(snapshot(&model), Ok(commit("aaa")));
        fs::create_dir_all(commit("bbb")).unwrap();
        assert!(snapshot(&model).unwrap_err().contains("2 revisions"));
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), "bbb\n").unwrap();
        assert_eq!(snapshot(&model), Ok(commit("bbb")));
    }
}
