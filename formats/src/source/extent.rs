//! A tensor's bytes in its file.

use std::ops::Range;

use super::{Source, Window};
use crate::error::{FormatError, Result};

/// Where the bytes of a tensor are; offsets count from its first byte.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    pub(super) source: &'a Source,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl<'a> Extent<'a> {
    /// `bytes` bytes from byte `offset` of `source` on; `None` if the file has not that many.
    pub(crate) fn new(source: &'a Source, offset: u64, bytes: u64) -> Option<Self> {
        offset.checked_add(bytes).filter(|&end| end <= source.bytes())?;
        Some(Self { source, offset, bytes })
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes of `range` alone.
    ///
    /// # Errors
    /// When the range is not inside this one.
    pub fn part(&self, range: Range<u64>) -> Result<Self> {
        let place = self.place(&range)?;
        Ok(Self { source: self.source, offset: place.start, bytes: place.end - place.start })
    }

    /// The bytes of `range`, as [`Source::window`] gives them.
    ///
    /// # Errors
    /// When the range is not inside the tensor, or cannot be read.
    pub fn window<'b>(&self, range: Range<u64>, buffer: &'b mut Vec<u8>) -> Result<Window<'b>> {
        self.source.window(self.place(&range)?, buffer)
    }

    /// Fills `out` from byte `offset` on.
    ///
    /// # Errors
    /// When `out` reaches past the tensor, or cannot be read.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let range = self.place(&(offset..offset.saturating_add(out.len() as u64)))?;
        self.source.read_at(range.start, out)
    }

    /// Tells the system that `range` is wanted soon.
    pub fn will_need(&self, range: Range<u64>) {
        if let Ok(range) = self.place(&range) {
            self.source.will_need(range);
        }
    }

    /// All bytes.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.pieces(|piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Calls `each` with all bytes, a piece after the other.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn pieces(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        const PIECE: u64 = 1 << 20;
        let mut buffer = Vec::new();
        let mut start = 0;
        while start < self.bytes {
            let end = start.saturating_add(PIECE).min(self.bytes);
            each(&self.window(start..end, &mut buffer)?);
            start = end;
        }
        Ok(())
    }

    fn place(&self, range: &Range<u64>) -> Result<Range<u64>> {
        if range.start > range.end || range.end > self.bytes {
            return Err(FormatError::Invalid {
                what: format!(
                    "{}: bytes {} to {} of a tensor of {} bytes",
                    self.source.path().display(),
                    range.start,
                    range.end,
                    self.bytes
                ),
                hint: "ask for bytes inside the tensor",
            });
        }
        Ok(self.offset + range.start..self.offset + range.end)
    }
}
