//! Names and locks of files under construction. A run makes a file of its own and recognises those of killed runs.
//!
//! The name is `OUT.kquant-RANDOM.partial`. A run holds a lock on its file for as long as it lives, so that a file of such a
//! name without a lock is the left-over of a killed run.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::{Builder, NamedTempFile};

use super::target::{folder_of, resolve};
use crate::error::{FormatError, Result};

/// Text between the output's name and the random part.
pub(super) const MARK: &str = ".kquant-";
/// Ending of the name.
pub(super) const END: &str = ".partial";
/// Number of random letters and digits.
pub(super) const RANDOM: usize = 8;
/// Number of names that are tried before the run gives up.
const ATTEMPTS: usize = 16;
/// Longest time that a run waits for others to start in the same folder, which takes them milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns whether `path` lies in the folder of `target` and has the name of a file that becomes `target`.
pub fn is_partial_of(path: &Path, target: &Path) -> bool {
    let named = path.file_name().zip(target.file_name()).is_some_and(|(name, target)| is_name(name, target));
    let folder = |path| folder_of(path).canonicalize().ok();
    named && folder(path) == folder(target)
}

pub(super) fn is_name(name: &OsStr, target: &OsStr) -> bool {
    let random = name
        .as_encoded_bytes()
        .strip_prefix(target.as_encoded_bytes())
        .and_then(|rest| rest.strip_prefix(MARK.as_bytes()))
        .and_then(|rest| rest.strip_suffix(END.as_bytes()));
    random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
}

/// Makes and locks the file that becomes `target`, and removes the left-overs of killed runs. `path` is `target` as the user
/// calls it.
pub(super) fn start(path: &Path, target: &Path) -> Result<NamedTempFile> {
    let fault = |e| FormatError::io(path, "create", e);
    let name = target.file_name().ok_or_else(|| fault(io::ErrorKind::InvalidInput.into()))?;
    let folder = folder_of(target);
    // Without taking turns, two runs that start at once could each find the other's file and both give up.
    let _turn = Turn::take(folder);
    remove_in(folder, name).map_err(fault)?;
    for _ in 0..ATTEMPTS {
        let file = create(folder, name).map_err(fault)?;
        // Between creation and lock the file looks like a left-over, which a run that did not wait for its turn may remove.
        if !matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock))
            && is_at(file.as_file(), file.path())
        {
            return Ok(file);
        }
    }
    Err(fault(busy()))
}

fn create(folder: &Path, name: &OsStr) -> io::Result<NamedTempFile> {
    let mut prefix = name.to_owned();
    prefix.push(MARK);
    // Files are made with the permissions of other new files, which the user's mask allows; tempfile would restrict them to
    // their owner.
    let open = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    Builder::new().prefix(&prefix).suffix(END).rand_bytes(RANDOM).make_in(folder, open)
}

/// Removes what killed runs have left of the output `path`, and returns the number of files.
///
/// # Errors
/// Fails when a living run is writing it.
pub fn remove_left_overs(path: &Path) -> Result<usize> {
    let target = resolve(path)?;
    let Some(name) = target.file_name() else { return Ok(0) };
    let folder = folder_of(&target);
    let _turn = Turn::take(folder);
    remove_in(folder, name).map_err(|e| FormatError::io(path, "clean", e))
}

/// Removes the partial files of `name` in `folder` that nobody holds, and returns their number.
///
/// # Errors
/// Fails when a living run holds one of them.
fn remove_in(folder: &Path, name: &OsStr) -> io::Result<usize> {
    let mut removed = 0;
    // A folder that can be written to but not listed cannot be cleaned.
    let Ok(entries) = fs::read_dir(folder) else { return Ok(removed) };
    for entry in entries.filter_map(io::Result::ok).filter(|e| is_name(&e.file_name(), name)) {
        let path = entry.path();
        if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        // Another user's file stays, and so does every file where the file system has no locks, as its owner may live.
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => {
                // If this fails, the next run tries again.
                removed += usize::from(fs::remove_file(&path).is_ok());
            }
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
    }
    Ok(removed)
}

pub(super) fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "another run is writing it")
}

/// Returns whether `path` is a name of `file`, and not of another file that has taken its place.
#[cfg(unix)]
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().ok().map(identity) == path.symlink_metadata().ok().map(identity)
}

/// Returns whether there is a file at `path`, which suffices because Windows lets nobody remove or replace an open file.
#[cfg(not(unix))]
pub(super) fn is_at(_file: &File, path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The turn of one run to start in a folder, kept by a lock on the folder.
pub(super) struct Turn {
    _folder: Option<File>,
}

impl Turn {
    /// Waits for the turn. Where folders cannot be locked, or another process keeps the lock, the run starts without a turn:
    /// the outputs are right all the same, but two runs that start at once may both do the work.
    pub(super) fn take(folder: &Path) -> Self {
        let Ok(folder) = File::open(folder) else { return Self { _folder: None } };
        let start = Instant::now();
        loop {
            match folder.try_lock() {
                Ok(()) => return Self { _folder: Some(folder) },
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(_) => return Self { _folder: None },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_others() {
        let is = |name: &str| is_name(OsStr::new(name), OsStr::new("out.gguf"));
        assert!(is("out.gguf.kquant-a1B2c3D4.partial"));
        for other in [
            "out.gguf",
            "out.gguf.partial",
            "out.gguf.kquant-.partial",
            "out.gguf.kquant-a1B2c3D.partial",
            "out.gguf.kquant-a1B2c3D45.partial",
            "out.gguf.kquant-a1B2c-D4.partial",
            "out.gguf.kquant-a1B2c3D4.part",
            "my-out.gguf.kquant-a1B2c3D4.partial",
            "out.gguf.2.kquant-a1B2c3D4.partial",
        ] {
            assert!(!is(other), "{other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_has_taken_the_place_of_another_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let made = create(folder.path(), OsStr::new("out")).unwrap();
        assert!(is_name(made.path().file_name().unwrap(), OsStr::new("out")));
        assert!(is_at(made.as_file(), made.path()));
        fs::remove_file(made.path()).unwrap();
        assert!(!is_at(made.as_file(), made.path()));
        fs::write(made.path(), "other").unwrap();
        assert!(!is_at(made.as_file(), made.path()));
    }
}
