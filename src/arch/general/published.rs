//! The published name of a model, if the path of its files contains it.
//!
//! Hugging Face's cache keeps a model in `models--ORGANIZATION--NAME/snapshots/COMMIT`, so that the folder's own name is
//! a commit's, which says nothing about the model.

use std::path::Path;

/// Returns the name that follows from the folder of a model: `ORGANIZATION/NAME` for a snapshot in the cache, else the
/// folder's name; empty if that is a commit's.
pub fn folder_name(folder: &Path) -> String {
    // The path is resolved, because `.` and `..` are no names.
    let Ok(folder) = folder.canonicalize() else { return String::new() };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    match cached(&folder.to_string_lossy()) {
        Some(id) => id,
        None if is_commit(&name) => String::new(),
        None => name.into_owned(),
    }
}

/// Returns `ORGANIZATION/NAME`, or `NAME` of a model without organization, if `path` is a snapshot in the cache.
pub(super) fn cached(path: &str) -> Option<String> {
    let mut parts = path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']);
    let _commit = parts.next()?;
    parts.next().filter(|&part| part == "snapshots")?;
    let id = parts.next()?.strip_prefix("models--").filter(|id| !id.is_empty())?;
    Some(id.replacen("--", "/", 1))
}

/// Returns true if the last part of `path` is the name of a commit: 40 hexadecimal digits.
pub(in crate::arch) fn is_commit(path: &str) -> bool {
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    last.len() == 40 && last.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn snapshots_are_called_what_was_published() {
        for (folder, name) in [
            (format!("hub/models--some-lab--Fir-1B-Chat/snapshots/{COMMIT}"), "some-lab/Fir-1B-Chat"),
            (format!("models--gpt2/snapshots/{COMMIT}"), "gpt2"),
            (format!("backup/{COMMIT}"), ""),
            (format!("snapshots/{COMMIT}"), ""),
            ("snapshots/main".to_owned(), "main"),
            ("Fir-1B".to_owned(), "Fir-1B"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            assert_eq!(folder_name(&folder), name, "{}", folder.display());
        }
        assert_eq!(folder_name(Path::new("no/such/folder")), "");
    }

    #[test]
    fn commits_are_told_from_names() {
        assert!(is_commit(COMMIT) && is_commit(&format!("a/{COMMIT}")) && is_commit(&COMMIT.to_uppercase()));
        for name in ["", "Fir-1B", &COMMIT[1..], &format!("{COMMIT}0"), &COMMIT.replace('0', "g")] {
            assert!(!is_commit(name), "{name}");
        }
    }
}
