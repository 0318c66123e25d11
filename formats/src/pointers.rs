//! Git LFS pointers: a repository that was cloned without Git LFS has short texts in place of its large files.
//!
//! Pointers are detected wherever a file is opened, so that the error names the true cause.

use std::fs::File;
use std::path::Path;

use crate::error::{FormatError, Result};
use crate::scratch::read_exact_at;

/// Length in bytes that every pointer stays below, by the specification of Git LFS.
const LONGEST_POINTER: u64 = 1024;

/// First lines of a pointer; the second one was used by the first versions of Git LFS.
const POINTERS: [&[u8]; 2] =
    [b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];

/// Refuses `bytes`, the content of `path`, if they are a pointer.
pub(crate) fn check(path: &Path, bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 >= LONGEST_POINTER || !POINTERS.iter().any(|start| bytes.starts_with(start)) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(bytes);
    let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
    let size = size.map_or_else(String::new, |bytes| format!(", which has {bytes} bytes"));
    let what = format!("is a Git LFS pointer, not the file itself{size}");
    const HINT: &str = "fetch it: `git lfs pull` in its folder, or `hf download` of the whole model";
    Err(FormatError::malformed(path, None, what, HINT))
}

/// Refuses `file`, which was opened as `path` and has `length` bytes, if it is a pointer.
pub(crate) fn check_file(path: &Path, file: &File, length: u64) -> Result<()> {
    if length >= LONGEST_POINTER {
        return Ok(());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    read_exact_at(file, 0, &mut bytes).map_err(|e| FormatError::io(path, "read", e))?;
    check(path, &bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::source::Source;
    use crate::whole::{CONFIGURATION, read, read_if_there};

    fn pointer(version: &str) -> String {
        format!("version {version}\noid sha256:{}\nsize 2471645608\n", "4d7a".repeat(16))
    }

    #[test]
    fn pointers_are_named_however_a_file_is_opened() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for version in ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1"] {
            fs::write(file.path(), pointer(version)).unwrap();
            let errors =
                [read(file.path(), CONFIGURATION).unwrap_err(), Source::open(file.path()).unwrap_err()];
            for message in errors.map(|e| e.to_string()) {
                assert!(
                    message.contains("is a Git LFS pointer") && message.contains("2471645608 bytes"),
                    "{message}"
                );
                assert!(message.contains("git lfs pull"), "{message}");
                assert!(message.contains(&*file.path().to_string_lossy()), "{message}");
            }
        }
    }

    #[test]
    fn other_files_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = pointer("https://git-lfs.github.com/spec/v1") + &" ".repeat(1024);
        for text in ["", "version 3", &long, "# version https://git-lfs.github.com/spec/v1"] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(read(file.path(), CONFIGURATION).unwrap(), text.as_bytes());
            assert_eq!(Source::open(file.path()).unwrap().whole().read().unwrap(), text.as_bytes());
        }
        assert_eq!(read_if_there(std::path::Path::new("no/such/file"), CONFIGURATION).unwrap(), None);
        assert!(read_if_there(&std::env::temp_dir(), CONFIGURATION).is_err());
    }
}
