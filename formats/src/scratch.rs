//! Temporary storage for data that memory cannot hold: a nameless file, which the system removes however the run ends.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{FormatError, Result};
use crate::limits;

/// A growing nameless file, which several threads may use at once.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    folder: PathBuf,
    end: AtomicU64,
}

impl Scratch {
    /// Makes an empty file in the system's folder for temporary files (`TMPDIR` and its like).
    ///
    /// # Errors
    /// Fails when no file can be created there.
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir();
        let file =
            tempfile::tempfile_in(&folder).map_err(|e| FormatError::io(&folder, "create a file in", e))?;
        Ok(Self { file, folder, end: AtomicU64::new(0) })
    }

    /// Reserves `bytes` bytes and returns the offset at which they start.
    pub fn reserve(&self, bytes: u64) -> u64 {
        self.end.fetch_add(bytes, Ordering::Relaxed)
    }

    /// Writes `data` at byte `offset`.
    ///
    /// # Errors
    /// Fails when the system cannot write, for example because the disk is full.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        limits::check_size(offset.saturating_add(data.len() as u64))
            .and_then(|()| write_all_at(&self.file, offset, data))
            .map_err(|e| FormatError::io(&self.folder, "write temporary data to", e))
    }

    /// Fills `data` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Fails when the system cannot read, or nothing was written there.
    pub fn read_at(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, offset, data)
            .map_err(|e| FormatError::io(&self.folder, "read temporary data from", e))
    }
}

/// Writes all of `data` at byte `offset` of `file`.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

/// Writes all of `data` at byte `offset` of `file`.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !data.is_empty() {
        let written = file.seek_write(data, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data = data.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}

/// Fills `data` with the bytes of `file` from `offset` on.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, offset: u64, data: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, data, offset)
}

/// Fills `data` with the bytes of `file` from `offset` on.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut offset: u64, mut data: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !data.is_empty() {
        let read = file.seek_read(data, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        data = data.get_mut(read..).unwrap_or_default();
        offset += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let scratch = Scratch::new().unwrap();
        let (a, b) = (scratch.reserve(5), scratch.reserve(3));
        scratch.write_at(b, b"xyz").unwrap();
        scratch.write_at(a, b"hello").unwrap();
        let mut data = [0; 8];
        scratch.read_at(a, &mut data).unwrap();
        assert_eq!(&data, b"helloxyz");
        assert!(scratch.read_at(4, &mut data).unwrap_err().to_string().contains("temporary data"));
    }
}
