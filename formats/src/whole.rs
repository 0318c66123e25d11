//! Files that are read at once: configurations, tokenizers, texts.
//!
//! Each is asked what it is before it is opened, as to open a pipe waits for its writer and a device may have no end, and no
//! more of it is read than a limit. What a Git LFS pointer stands for is named.

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::error::{FormatError, Result};
use crate::partial::special;
use crate::pointers;

/// The most bytes of a configuration: hundreds of times what the largest ones have.
pub const CONFIGURATION: u64 = 64 << 20;
/// The most bytes of a tokenizer or a list of hashes: tens of times what the largest ones have.
pub const LIST: u64 = 1 << 30;
/// The most bytes of a text to run a model over.
pub const TEXT: u64 = 1 << 30;

/// The bytes of the regular file `path`, or of the one that it links to.
///
/// # Errors
/// When it is missing, anything else, longer than `limit` bytes, a Git LFS pointer, or cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_as(path, limit, |_| false)
}

/// The bytes of `path` as [`read`] gives them, or `None` if there is no such file.
///
/// # Errors
/// Those of [`read`].
pub fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FormatError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of the regular file `path`, or of a pipe, which is read to its end.
///
/// # Errors
/// Those of [`read`].
pub fn read_file_or_pipe(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_as(path, limit, |kind| special(kind) == Some("a pipe"))
}

/// The first `bytes` bytes of the regular file `path`, or all of a shorter one.
///
/// # Errors
/// When it is missing, anything else, or cannot be read.
pub fn start(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    if let Some(error) = not_regular(fs::metadata(path)?.file_type()) {
        return Err(error);
    }
    let mut start = Vec::with_capacity(bytes);
    File::open(path)?.take(bytes as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// The bytes of `path`, which is a regular file or of a kind that is `allowed`.
fn read_as(path: &Path, limit: u64, allowed: fn(FileType) -> bool) -> Result<Vec<u8>> {
    let kind = fs::metadata(path).map(|found| found.file_type());
    let bytes = kind.and_then(|kind| match not_regular(kind) {
        Some(error) if !allowed(kind) => Err(error),
        _ => up_to(path, limit),
    });
    let bytes = bytes.map_err(|e| FormatError::io(path, "read", e))?;
    pointers::check(path, &bytes)?;
    Ok(bytes)
}

fn up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Not by the size that it has now: a pipe has none, and a file may grow.
    let read = File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        let what = format!("it has more than {limit} bytes, the most that is read of such a file");
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// Why something of kind `kind`, links followed, is not read as a file is; `None` for regular files.
pub(crate) fn not_regular(kind: FileType) -> Option<io::Error> {
    if kind.is_dir() {
        return Some(ErrorKind::IsADirectory.into());
    }
    let what = special(kind)?;
    Some(io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_up_to_the_limit_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "12345").unwrap();
        for read in [read, read_file_or_pipe] {
            assert_eq!(read(file.path(), 5).unwrap(), b"12345");
            let error = read(file.path(), 4).unwrap_err();
            assert!(error.to_string().contains("more than 4 bytes"), "{error}");
        }
        assert_eq!(
            (start(file.path(), 2).unwrap(), start(file.path(), 9).unwrap().len()),
            (b"12".to_vec(), 5)
        );
    }

    #[cfg(unix)]
    #[test]
    fn folders_devices_and_sockets_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, link) = (folder.path().join("socket"), folder.path().join("link"));
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for read in [read, read_file_or_pipe] {
            for (path, fragment) in
                [(folder.path(), "directory"), (&socket, "it is a socket"), (&link, "it is a device")]
            {
                let error = read(path, 5).unwrap_err();
                assert!(error.to_string().contains(fragment), "{error}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_only_where_one_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(start(&pipe, 5).unwrap_err().to_string().contains("it is a pipe"));
        assert!(read(&pipe, 5).unwrap_err().to_string().contains("it is a pipe"));
        std::thread::scope(|scope| {
            scope.spawn(|| fs::write(&pipe, "text").unwrap());
            assert_eq!(read_file_or_pipe(&pipe, 5).unwrap(), b"text");
        });
    }
}
