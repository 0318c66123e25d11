//! Read-only memory maps; this is the one module of the crate with `unsafe`.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use crate::error::{FormatError, Result};
use crate::pointers::check_file;
use crate::whole;

/// The bytes of a file, which the system reads as they are touched.
#[derive(Debug)]
pub struct Mapped {
    path: PathBuf,
    // An empty file has no map, as some systems refuse to make one.
    map: Option<Mmap>,
}

impl Mapped {
    /// Maps the whole of `path`, which must be a regular file (or a link to one).
    ///
    /// # Errors
    /// Fails when the file is missing, a folder, a pipe or a device, or cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, length) = open_regular(path)?;
        let map = match length {
            0 => None,
            _ => Some(map(&file, 0..length).map_err(|e| FormatError::io(path, "map", e))?),
        };
        Ok(Self { path: path.to_owned(), map })
    }

    /// Returns the path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

/// Opens a regular file (or a link to one) that is no Git LFS pointer, and returns it with its size in bytes.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    // The kind is queried before opening, since opening a pipe would wait for its writer.
    let kind = fs::metadata(path).map_err(|e| FormatError::io(path, "open", e))?;
    if kind.is_dir() {
        return Err(FormatError::io(path, "read", io::ErrorKind::IsADirectory.into()));
    }
    if let Some(source) = whole::not_regular(kind.file_type()) {
        return Err(FormatError::io(path, "read", source));
    }
    let file = File::open(path).map_err(|e| FormatError::io(path, "open", e))?;
    let length = file.metadata().map_err(|e| FormatError::io(path, "open", e))?.len();
    check_file(path, &file, length)?;
    Ok((file, length))
}

/// Maps the bytes of `range`, which must not be empty.
#[allow(unsafe_code)]
pub(crate) fn map(file: &File, range: Range<u64>) -> io::Result<Mmap> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    // SAFETY: the map is private to this process and never written. The remaining risk is that another process truncates or
    // rewrites the file while it is mapped; no system can rule that out, and every reader that maps model files accepts it.
    unsafe { MmapOptions::new().offset(range.start).len(length).map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_refused() {
        let folder = std::env::temp_dir();
        let message = Mapped::open(&folder).unwrap_err().to_string();
        assert!(message.contains("cannot read"), "{message}");
        assert!(message.contains(&*folder.to_string_lossy()), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_refused() {
        let message = Mapped::open(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(message.contains("not a regular file"), "{message}");
    }
}
