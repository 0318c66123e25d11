//! Output files that appear only when they are complete.
//!
//! Everything is written to a file in the folder of the output, under a name that no other program uses (`left_over`). That
//! file takes the output's name at the end, and disappears if the end is never reached. An output that is a link leads to
//! the file that is replaced; devices, pipes and the like are refused (`target`). Folders are made in the same way (`folder`).

mod folder;
mod left_over;
mod target;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{FormatError, Result};
use crate::limits;
use crate::scratch::write_all_at;
use crate::source::write_out;

pub use folder::PartialFolder;
pub use left_over::{is_partial_of, remove_left_overs};
pub use target::resolve;
pub(crate) use target::special;

/// A file of known size under construction; several threads may write to it at once.
#[derive(Debug)]
pub struct PartialFile {
    /// The file, which is removed by its name when this is dropped.
    file: NamedTempFile,
    /// The output as the user calls it.
    path: PathBuf,
    /// The output with links followed.
    target: PathBuf,
    bytes: u64,
    force: bool,
}

/// Refuses an output `path` of `bytes` bytes, together with what is written beside it, if there is no room for them: to be asked before
/// hours of work.
///
/// # Errors
/// Fails when fewer bytes are free, or the folder cannot be found.
pub fn check_room(path: &Path, bytes: u64) -> Result<()> {
    let target = resolve(path)?;
    let room = File::open(target::folder_of(&target)).and_then(|folder| limits::check_room(&folder, bytes));
    room.map_err(|e| FormatError::io(path, "write to the folder of", e))
}

impl PartialFile {
    /// Starts `path` with a size of `bytes`; an existing file is replaced at the end, and only if `force` is set.
    ///
    /// The left-over of a killed run is removed; a file that a living run still writes is refused.
    ///
    /// # Errors
    /// Fails when `path` exists (without `force`), is or leads to a folder, a device or the like, lies in a folder that is
    /// missing or read-only, or is being written by another run, and when the system has no room for the size.
    pub fn create(path: &Path, bytes: u64, force: bool) -> Result<Self> {
        let target = check_target(path, force)?;
        let file = left_over::start(path, &target)?;
        let mut started = Self { file, path: path.to_owned(), target, bytes: 0, force };
        started.resize(bytes)?;
        Ok(started)
    }

    /// Sets the content to `content` and the size to its length.
    ///
    /// # Errors
    /// Fails when the system has no room for the size, or cannot write.
    pub fn fill(&mut self, content: &[u8]) -> Result<()> {
        self.resize(content.len() as u64)?;
        self.write_at(0, content)
    }

    fn resize(&mut self, bytes: u64) -> Result<()> {
        let file = self.file.as_file();
        let sized = limits::check_size(bytes)
            .and_then(|()| limits::check_room(file, bytes.saturating_sub(self.bytes)))
            .and_then(|()| file.set_len(bytes));
        sized.map_err(|e| self.io("give its full size to", e))?;
        self.bytes = bytes;
        Ok(())
    }

    /// Returns the name that the file has until it is finished, under which a killed run leaves it.
    pub fn partial_path(&self) -> &Path {
        self.file.path()
    }

    /// Writes `data` at byte `offset`.
    ///
    /// # Errors
    /// Fails when `data` reaches past the declared size, or the system cannot write, for example because the disk is full.
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
        write_all_at(self.file.as_file(), offset, data).map_err(|e| self.io("write to", e))
    }

    /// Tells the system to begin writing the bytes of `range` to the disk, so that [`finish`](Self::finish) waits less.
    pub fn begin_writing_out(&self, range: Range<u64>) {
        write_out(self.file.as_file(), range);
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// Fails when the system cannot write everything out or rename the file, or when a file of that name has appeared
    /// meanwhile and must not be overwritten. The partial file is removed then.
    pub fn finish(self) -> Result<()> {
        Self::finish_all([self])
    }

    /// Finishes files that belong together, as [`finish`](Self::finish) does for one: none gets its name before all are
    /// durable.
    ///
    /// # Errors
    /// Fails as [`finish`](Self::finish) does. No file keeps its name then, except one that has already replaced another.
    pub fn finish_all(files: impl IntoIterator<Item = Self>) -> Result<()> {
        let files: Vec<Self> = files.into_iter().collect();
        files.iter().try_for_each(Self::make_durable)?;
        let mut named = Named(Vec::new());
        for file in files {
            named.0.push(file.rename()?);
        }
        for file in &named.0 {
            sync_folder(&file.target)?;
        }
        named.0.clear();
        Ok(())
    }

    fn make_durable(&self) -> Result<()> {
        self.file.as_file().sync_all().map_err(|e| self.io("write out", e))?;
        check_target(&self.path, self.force)?;
        Ok(())
    }

    fn rename(self) -> Result<NamedFile> {
        let Self { file, path, target, force, .. } = self;
        // The rename must not give the target's name to another file's bytes.
        if !left_over::is_at(file.as_file(), file.path()) {
            let source = io::Error::other("another program has removed or replaced the unfinished file");
            return Err(FormatError::io(&path, "finish", source));
        }
        let named = if force { file.persist(&target) } else { file.persist_noclobber(&target) };
        let named = named.or_else(|e| match e.error.kind() {
            // The file system supports neither such renames nor hard links, and the name was free a moment ago.
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => {
                e.file.persist(&target)
            }
            _ => Err(e),
        });
        match named {
            Ok(file) => Ok(NamedFile { file, target, new: !force }),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(FormatError::Exists(path)),
            Err(e) => Err(FormatError::io(&path, "rename", e.error)),
        }
    }

    fn io(&self, action: &'static str, source: io::Error) -> FormatError {
        FormatError::io(&self.path, action, source)
    }
}

/// A finished file that has got its name.
struct NamedFile {
    /// The open file, which holds the lock until all files that belong together have their names.
    file: File,
    target: PathBuf,
    /// True if no file had this name before.
    new: bool,
}

/// Files that have their names while others that belong to them do not yet. New ones are removed again if this is dropped.
struct Named(Vec<NamedFile>);

impl Drop for Named {
    fn drop(&mut self) {
        for NamedFile { file, target, .. } in self.0.iter().filter(|file| file.new) {
            if left_over::is_at(file, target) {
                // There is nobody to report a failure to.
                let _ = fs::remove_file(target);
            }
        }
    }
}

/// Returns the file that an output called `path` replaces or becomes.
fn check_target(path: &Path, force: bool) -> Result<PathBuf> {
    let target = target::resolve(path)?;
    // A link that leads nowhere counts as existing.
    if !force && path.symlink_metadata().is_ok() {
        return Err(FormatError::Exists(path.to_owned()));
    }
    Ok(target)
}

#[cfg(unix)]
fn sync_folder(target: &Path) -> Result<()> {
    let folder = target::folder_of(target);
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| FormatError::io(folder, "write out", e))
}

#[cfg(windows)]
fn sync_folder(_target: &Path) -> Result<()> {
    Ok(()) // Windows has no handle to synchronise a folder by; it journals renames itself.
}
