//! Output files that appear only when they are complete.
//!
//! Everything is written to `OUT.partial`, which takes OUT's name at the end and disappears if there is no such end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{FormatError, Result};
use crate::scratch::write_all_at;
use crate::source::write_out;

/// A file of known size under construction; threads may write to it at once.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    bytes: u64,
    force: bool,
    finished: bool,
}

impl PartialFile {
    /// Starts `path` with a size of `bytes`; an existing file is replaced, at the end, only if `force` is set.
    ///
    /// A partial file that a killed run left behind is started anew; one that a living run still writes is refused.
    ///
    /// # Errors
    /// When `path` exists (without `force`), is a folder, lies in a folder that is missing or read-only, is being written
    /// by another run, or when the system has no room for the size.
    pub fn create(path: &Path, bytes: u64, force: bool) -> Result<Self> {
        check_target(path, force)?;
        let partial = partial_path(path);
        let file = open_exclusive(&partial)?;
        let started = Self { file, partial, target: path.to_owned(), bytes, force, finished: false };
        started.file.set_len(bytes).map_err(|e| started.io("give its full size to", e))?;
        Ok(started)
    }

    /// The name it has until it is finished: what a signal handler has to remove.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// Writes `data` at byte `offset`.
    ///
    /// # Errors
    /// When `data` reaches past the declared size, or the system cannot write (a full disk, for one).
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(FormatError::Invalid {
                what: format!(
                    "{} bytes at byte {offset} do not fit a file of {} bytes",
                    data.len(),
                    self.bytes
                ),
                hint: "write inside the size that the file was created with",
            });
        }
        write_all_at(&self.file, offset, data).map_err(|e| self.io("write to", e))
    }

    /// Tells the system to begin putting the bytes of `range` on the disk, so that [`finish`](Self::finish) has less to wait for.
    pub fn begin_writing_out(&self, range: Range<u64>) {
        write_out(&self.file, range);
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// When the system cannot write everything out or rename it, or when a file of that name has appeared meanwhile and
    /// was not to be overwritten. The partial file is removed then.
    pub fn finish(mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.io("write out", e))?;
        check_target(&self.target, self.force)?;
        fs::rename(&self.partial, &self.target).map_err(|e| self.io("rename", e))?;
        self.finished = true;
        sync_folder(&self.target)
    }

    fn io(&self, action: &'static str, source: io::Error) -> FormatError {
        FormatError::io(&self.partial, action, source)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to tell if this fails; the next run starts the file anew.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn check_target(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        return Err(FormatError::io(path, "write to", io::ErrorKind::IsADirectory.into()));
    }
    // A dangling link counts as existing: the rename would replace it.
    if !force && path.symlink_metadata().is_ok() {
        return Err(FormatError::Exists(path.to_owned()));
    }
    Ok(())
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Creates `partial` and locks it; the lock tells a run that is alive from one that was killed.
fn open_exclusive(partial: &Path) -> Result<File> {
    let io = |e| FormatError::io(partial, "create", e);
    let create = || OpenOptions::new().write(true).create_new(true).open(partial);
    let file = match create() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let left_behind = OpenOptions::new().write(true).open(partial).map_err(io)?;
            lock(&left_behind, partial)?;
            // Removed, not truncated: its owner may have finished and renamed it since it was opened here.
            match fs::remove_file(partial) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
                _ => create().map_err(io)?,
            }
        }
        other => other.map_err(io)?,
    };
    lock(&file, partial)?;
    Ok(file)
}

fn lock(file: &File, partial: &Path) -> Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let source = io::Error::new(io::ErrorKind::ResourceBusy, "another run is writing it");
            Err(FormatError::io(partial, "create", source))
        }
        // Some file systems know no locks: there, nothing keeps two runs apart, but one alone must work.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

#[cfg(unix)]
fn sync_folder(target: &Path) -> Result<()> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| FormatError::io(folder, "write out", e))
}

#[cfg(windows)]
fn sync_folder(_target: &Path) -> Result<()> {
    Ok(()) // Windows has no handle to synchronise a folder by; it journals renames itself.
}
