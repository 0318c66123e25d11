//! Checked reading of little-endian bytes, where every error names the file, the offset and the value that was read.

use std::fmt::Display;
use std::path::Path;

use crate::error::{DAMAGED, FormatError, Result};

/// A number of fixed width, stored in little-endian order.
pub(crate) trait Number: Copy {
    const BYTES: u64;
    /// Returns the first number of `bytes`; `None` if they are too few.
    fn first(bytes: &[u8]) -> Option<Self>;
    /// Returns all numbers of `bytes`, in order; a rest that is no whole number is left out.
    fn all(bytes: &[u8]) -> Vec<Self>;
    /// Appends the number's bytes to `out`.
    fn append_to(self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($t:ty)*) => {$(
        impl Number for $t {
            const BYTES: u64 = size_of::<$t>() as u64;
            fn first(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|b| <$t>::from_le_bytes(*b))
            }
            fn all(bytes: &[u8]) -> Vec<Self> {
                bytes.as_chunks().0.iter().map(|b| <$t>::from_le_bytes(*b)).collect()
            }
            fn append_to(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
numbers!(u8 i8 u16 i16 u32 i32 f32 u64 i64 f64);

/// A position in the bytes of a file, from which they are read in order.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    path: &'a Path,
    rest: &'a [u8],
    offset: u64,
    /// Offset at which the file or part ends, in bytes; it lies past `rest` when that is only a prefix.
    end: u64,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte of `bytes`, the whole content of `path`.
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self::prefix(path, bytes, bytes.len() as u64)
    }

    /// Starts at the first byte of `bytes`, a prefix of `path`, which has `end` bytes. Reading past the prefix fails with an
    /// error that [wants more](FormatError::wants_more).
    pub(crate) fn prefix(path: &'a Path, bytes: &'a [u8], end: u64) -> Self {
        Self { path, rest: bytes, offset: 0, end }
    }

    /// Returns the position in bytes from the start of the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the number of bytes from the position to the end.
    pub(crate) fn remaining(&self) -> u64 {
        self.end - self.offset
    }

    /// Reads the next `count` bytes; errors call them `label`.
    pub(crate) fn take(&mut self, count: u64, label: &dyn Display) -> Result<&'a [u8]> {
        if count > self.remaining() {
            let what = format!("{label} needs {count} bytes but {} are left in it", self.remaining());
            return Err(self.malformed(what, DAMAGED));
        }
        let split = usize::try_from(count).ok().and_then(|n| self.rest.split_at_checked(n));
        let (taken, rest) = split.ok_or_else(|| FormatError::more(self.path))?;
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    /// Reads the next `count` bytes as a cursor of their own.
    pub(crate) fn part(&mut self, count: u64, label: &dyn Display) -> Result<Cursor<'a>> {
        let offset = self.offset;
        let rest = self.take(count, label)?;
        Ok(Cursor { path: self.path, rest, offset, end: self.offset })
    }

    /// Reads one number; errors call it `label`.
    pub(crate) fn number<T: Number>(&mut self, label: &dyn Display) -> Result<T> {
        let start = self.clone();
        let bytes = self.take(T::BYTES, label)?;
        T::first(bytes).ok_or_else(|| start.malformed(format!("{label} is cut short"), DAMAGED))
    }

    /// Reads `count` numbers; the allocation is bounded by what the file holds.
    pub(crate) fn numbers<T: Number>(&mut self, count: u64, label: &dyn Display) -> Result<Vec<T>> {
        // A saturated product fails as well: no file has that many bytes left.
        let bytes = self.take(count.saturating_mul(T::BYTES), label)?;
        Ok(T::all(bytes))
    }

    /// Reads the next `count` bytes as UTF-8 text.
    pub(crate) fn text(&mut self, count: u64, label: &dyn Display) -> Result<&'a str> {
        let start = self.offset;
        let bytes = self.take(count, label)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let at = start + e.valid_up_to() as u64;
            FormatError::malformed(self.path, at, format!("{label} is no UTF-8"), DAMAGED)
        })
    }

    /// Returns an error about the current position.
    pub(crate) fn malformed(&self, what: impl Into<String>, hint: &'static str) -> FormatError {
        FormatError::malformed(self.path, self.offset, what, hint)
    }

    /// Returns an error about a limit that is exceeded at the current position.
    pub(crate) fn limit(&self, what: impl Into<String>, hint: &'static str) -> FormatError {
        FormatError::limit(self.path, self.offset, what, hint)
    }
}
