//! The file that an output replaces: links are followed, and anything but a regular file is refused by its kind.

use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{FormatError, Result};

/// Number of links that are followed before they count as a circle, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Returns the file that an output called `path` becomes: `path` itself or, for a link, its target, which need not exist.
///
/// The link stays: a rename in the folder of its target replaces the target.
///
/// # Errors
/// Fails when `path` is or leads to a folder, a device, a pipe, a socket or an open file of a process, or when its links
/// form a circle.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        if is_of_a_process(&at) {
            return Err(refused(path, "an open file of a process (a name under /proc)"));
        }
        // A file whose kind cannot be queried cannot be created either, and the creation gives the reason.
        let Ok(found) = at.symlink_metadata() else { return Ok(at) };
        let kind = found.file_type();
        if kind.is_symlink() {
            let to = fs::read_link(&at).map_err(|e| FormatError::io(path, "follow the link", e))?;
            at = folder_of(&at).join(to);
        } else if kind.is_dir() {
            return Err(FormatError::io(path, "write to", ErrorKind::IsADirectory.into()));
        } else {
            return special(kind).map_or(Ok(at), |kind| Err(refused(path, kind)));
        }
    }
    Err(FormatError::io(path, "follow the link", io::Error::other("its links go in a circle")))
}

/// Returns the folder that `path` lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn refused(path: &Path, kind: &'static str) -> FormatError {
    FormatError::Special { path: path.to_owned(), kind }
}

/// Returns the name of `kind` in words, if it is neither a regular file nor a folder nor a link.
#[cfg(unix)]
pub(crate) fn special(kind: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else {
        None
    }
}

/// Returns the name of `kind` in words, if it is neither a regular file nor a folder nor a link.
#[cfg(not(unix))]
pub(crate) fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_file() || kind.is_dir() || kind.is_symlink() { None } else { Some("no regular file") }
}

/// Returns whether `path` lies in a folder under /proc. Links there, to which /dev/stdout leads as well, are open files
/// without names.
fn is_of_a_process(path: &Path) -> bool {
    cfg!(target_os = "linux") && folder_of(path).canonicalize().is_ok_and(|f| f.starts_with("/proc"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn every_kind_has_its_word() {
        let folder = tempfile::tempdir().unwrap();
        let [file, socket] = ["file", "socket"].map(|name| folder.path().join(name));
        fs::write(&file, "").unwrap();
        let _listening = UnixListener::bind(&socket).unwrap();
        let word = |path: &Path| special(path.metadata().unwrap().file_type());
        assert_eq!(word(&file), None);
        assert_eq!(word(folder.path()), None);
        assert_eq!(word(&socket), Some("a socket"));
        assert_eq!(word(Path::new("/dev/null")), Some("a device"));
    }

    #[test]
    fn links_are_followed_to_their_last_target() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("in")).unwrap();
        fs::write(at("in/file"), "").unwrap();
        symlink("in/file", at("one")).unwrap();
        symlink(at("one"), at("two")).unwrap();
        symlink("in/missing", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink("in", at("folder")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        assert_eq!(resolve(&at("two")).unwrap(), at("in/file"));
        assert_eq!(resolve(&at("dangling")).unwrap(), at("in/missing"));
        assert_eq!(resolve(&at("new")).unwrap(), at("new"));
        for (name, fragment) in [
            ("round", "its links go in a circle"),
            ("folder", "cannot write to: is a directory"),
            ("null", "a device"),
        ] {
            let message = resolve(&at(name)).unwrap_err().to_string();
            assert!(message.contains(fragment) && message.contains(name), "{message}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn open_files_of_a_process_are_refused() {
        for name in ["/proc/self/fd/1", "/dev/stdout", "/dev/fd/1"] {
            let message = resolve(Path::new(name)).unwrap_err().to_string();
            assert!(message.contains("an open file of a process"), "{message}");
        }
    }
}
