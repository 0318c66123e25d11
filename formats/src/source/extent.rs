//! The place of a tensor's bytes in its file.

use std::ops::Range;

use super::Source;
use crate::error::{FormatError, Result};

/// The place of a tensor's bytes. Offsets in it count from the tensor's first byte.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    pub(super) source: &'a Source,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl<'a> Extent<'a> {
    /// Returns the place of `bytes` bytes from byte `offset` of `source` on; `None` if the file is shorter.
    pub(crate) fn new(source: &'a Source, offset: u64, bytes: u64) -> Option<Self> {
        offset.checked_add(bytes).filter(|&end| end <= source.bytes())?;
        Some(Self { source, offset, bytes })
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the place of the bytes of `range` alone.
    ///
    /// # Errors
    /// Fails when the range is not inside this place.
    pub fn part(&self, range: Range<u64>) -> Result<Self> {
        let place = self.place(&range)?;
        Ok(Self { source: self.source, offset: place.start, bytes: place.end - place.start })
    }

    /// Returns the bytes of `range`, read into `buffer` as by [`Source::window`].
    ///
    /// # Errors
    /// Fails when the range is not inside the tensor, or cannot be read.
    pub fn window<'b>(&self, range: Range<u64>, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        self.source.window(self.place(&range)?, buffer)
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Fails when `out` reaches past the tensor, or the bytes cannot be read.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let range = self.place(&(offset..offset.saturating_add(out.len() as u64)))?;
        self.source.read_at(range.start, out)
    }

    /// Tells the system that `range` will be read soon.
    pub fn will_need(&self, range: Range<u64>) {
        if let Ok(range) = self.place(&range) {
            self.source.will_need(range);
        }
    }

    /// Reads all bytes.
    ///
    /// # Errors
    /// Fails when the bytes cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.pieces(|piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Calls `each` with all bytes, in pieces and in order.
    ///
    /// # Errors
    /// Fails when the bytes cannot be read.
    pub fn pieces(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        const PIECE: u64 = 1 << 20;
        let mut buffer = Vec::new();
        let mut start = 0;
        while start < self.bytes {
            let end = start.saturating_add(PIECE).min(self.bytes);
            each(self.window(start..end, &mut buffer)?);
            start = end;
        }
        Ok(())
    }

    /// Converts a range within the tensor to one within the file.
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
