//! Output folders that appear only when they are complete: their files are written in a folder beside, which takes the
//! output's name at the end and disappears if the end is never reached.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use super::left_over::{END, MARK, RANDOM, Turn, busy, is_name};
use super::sync_folder;
use super::target::folder_of;
use crate::error::{FormatError, Result};

/// A folder under construction.
#[derive(Debug)]
pub struct PartialFolder {
    /// The folder, which is removed with all its files when this is dropped.
    folder: TempDir,
    /// Holds the lock by which other runs know that the folder is no left-over.
    _lock: Option<File>,
    /// The output, without separators at its end.
    target: PathBuf,
}

impl PartialFolder {
    /// Starts the folder `path`, which must not exist or be empty. The left-over of a killed run is removed.
    ///
    /// # Errors
    /// Fails as [`check`](Self::check) does, when another run is writing the same output, and when the folder around it is
    /// missing or read-only.
    pub fn create(path: &Path) -> Result<Self> {
        Self::check(path)?;
        let fault = |e| FormatError::io(path, "create", e);
        let name = path.file_name().ok_or_else(|| fault(ErrorKind::InvalidInput.into()))?;
        let around = folder_of(path);
        // Between creation and lock, another run that starts could take the folder for a left-over.
        let _turn = Turn::take(around);
        remove_left_overs(around, name).map_err(fault)?;
        let mut prefix = OsString::from(name);
        prefix.push(MARK);
        let mut builder = Builder::new();
        let builder = with_usual_permissions(builder.prefix(&prefix).suffix(END).rand_bytes(RANDOM));
        let folder = builder.tempdir_in(around).map_err(fault)?;
        // Where folders cannot be opened or locked, nobody removes left-overs either.
        let lock = File::open(folder.path()).ok().filter(|file| file.try_lock().is_ok());
        Ok(Self { folder, _lock: lock, target: around.join(name) })
    }

    /// Checks that `path` may become an output folder, without making anything.
    ///
    /// # Errors
    /// Fails when `path` is a file, a link or a folder that is not empty.
    pub fn check(path: &Path) -> Result<()> {
        let bare = path.file_name().map_or_else(|| path.to_owned(), |name| folder_of(path).join(name));
        let Ok(found) = bare.symlink_metadata() else { return Ok(()) };
        if !found.is_dir() {
            let kind = if found.is_symlink() { "a link" } else { "no folder" };
            return Err(FormatError::Special { path: path.to_owned(), kind });
        }
        let mut entries = fs::read_dir(&bare).map_err(|e| FormatError::io(path, "list", e))?;
        match entries.next() {
            None => Ok(()),
            Some(_) => Err(FormatError::Special { path: path.to_owned(), kind: "a folder that holds files" }),
        }
    }

    /// Returns the folder in which files are written until it is finished.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the small file `name`.
    ///
    /// # Errors
    /// Fails when the system cannot write it.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path().join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let write = || -> io::Result<()> {
            fs::write(&path, content)?;
            File::open(&path)?.sync_all()
        };
        made.and_then(|()| write()).map_err(|e| FormatError::io(&path, "write", e))
    }

    /// Gives the folder its name, once its files are durable.
    ///
    /// # Errors
    /// Fails when the output has come into being meanwhile and is not empty, or the system cannot rename. The folder is
    /// removed then.
    pub fn finish(self) -> Result<()> {
        let Self { folder, target, .. } = self;
        Self::check(&target)?;
        let fault = |e| FormatError::io(&target, "rename", e);
        // Renaming to an empty folder replaces it on Unix alone.
        if target.is_dir() {
            fs::remove_dir(&target).map_err(fault)?;
        }
        fs::rename(folder.path(), &target).map_err(fault)?;
        // Its files have moved, and there is nothing to remove.
        let _ = folder.keep();
        sync_folder(&target)
    }
}

/// Gives folders the permissions of other new folders, which the user's mask allows; tempfile would restrict them to their
/// owner.
#[cfg(unix)]
fn with_usual_permissions<'a, 'b, 'c>(builder: &'a mut Builder<'b, 'c>) -> &'a mut Builder<'b, 'c> {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(0o777))
}

#[cfg(not(unix))]
fn with_usual_permissions<'a, 'b, 'c>(builder: &'a mut Builder<'b, 'c>) -> &'a mut Builder<'b, 'c> {
    builder
}

/// Removes the partial folders of `name` in `around` that nobody holds.
fn remove_left_overs(around: &Path, name: &OsStr) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(around) else { return Ok(()) };
    for entry in entries.filter_map(io::Result::ok).filter(|e| is_name(&e.file_name(), name)) {
        let path = entry.path();
        if !path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(busy()),
            // If this fails, the next run tries again.
            Ok(()) => drop(fs::remove_dir_all(&path)),
            Err(TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}
