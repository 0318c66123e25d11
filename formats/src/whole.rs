//! Files that are read at once, such as configurations, tokenizers and texts.
//!
//! The kind of a file is checked before it is opened, since opening a pipe waits for its writer and a device may have no
//! end. No more than a limit is read. A Git LFS pointer is recognised and named.

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::error::{FormatError, Result};
use crate::partial::special;
use crate::pointers;

/// Largest configuration in bytes, hundreds of times the size of the largest known ones.
pub const CONFIGURATION: u64 = 64 << 20;
/// Largest tokenizer or list of hashes in bytes, tens of times the size of the largest known ones.
pub const LIST: u64 = 1 << 30;
/// Largest text in bytes that a model is run on.
pub const TEXT: u64 = 1 << 30;

/// Returns the bytes of the regular file `path`, or of the file that it links to.
///
/// # Errors
/// Fails when the file is missing, no regular file, longer than `limit` bytes or a Git LFS pointer, or cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_as(path, limit, |_| false)
}

/// Returns the bytes of `path` as [`read`] does, or `None` if there is no such file.
///
/// # Errors
/// Fails as [`read`] does.
pub fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FormatError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the bytes of the regular file `path`, or of a pipe, which is read to its end.
///
/// # Errors
/// Fails as [`read`] does.
pub fn read_file_or_pipe(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_as(path, limit, |kind| special(kind) == Some("a pipe"))
}

/// Returns the first `bytes` bytes of the regular file `path`, or all of a shorter one.
///
/// # Errors
/// Fails when the file is missing or no regular file, or cannot be read.
pub fn start(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    if let Some(error) = not_regular(fs::metadata(path)?.file_type()) {
        return Err(error);
    }
    let mut start = Vec::with_capacity(bytes);
    File::open(path)?.take(bytes as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Returns the bytes of `path`, which is a regular file or of a kind that `allowed` accepts.
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

/// Reads `path` to its end, which must come within `limit` bytes.
fn up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The file's current size cannot bound the read: a pipe has none, and a file may grow.
    let read = File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        let what = format!("it has more than {limit} bytes, the most that is read of such a file");
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// Returns the reason why something of kind `kind`, links followed, is not read as a file; `None` for regular files.
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
