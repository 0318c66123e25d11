//! Checked reading of little-endian bytes; every failure names the file, the offset and the thing read.

use std::fmt::Display;
use std::path::Path;

use crate::error::{DAMAGED, FormatError, Result};

/// A number of fixed width, little-endian on disk.
pub(crate) trait Number: Copy {
    const BYTES: u64;
    /// The first number of `bytes`.
    fn first(bytes: &[u8]) -> Option<Self>;
    /// All numbers of `bytes`, one after the other.
    fn all(bytes: &[u8]) -> Vec<Self>;
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

/// A position in a file's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    path: &'a Path,
    rest: &'a [u8],
    offset: u64,
    /// Where the file or part ends; past `rest` when that is only the start of it.
    end: u64,
}

impl<'a> Cursor<'a> {
    /// At the start of `bytes`, the whole content of `path`.
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self::prefix(path, bytes, bytes.len() as u64)
    }

    /// At the start of `bytes`, the first ones of `path`, which has `end` bytes; where `bytes` are too few, the error
    /// [wants more](FormatError::wants_more).
    pub(crate) fn prefix(path: &'a Path, bytes: &'a [u8], end: u64) -> Self {
        Self { path, rest: bytes, offset: 0, end }
    }

    /// Bytes from the start of the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.end - self.offset
    }

    /// The next `count` bytes; `label` names them in errors.
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

    /// A cursor over the next `count` bytes alone.
    pub(crate) fn part(&mut self, count: u64, label: &dyn Display) -> Result<Cursor<'a>> {
        let offset = self.offset;
        let rest = self.take(count, label)?;
        Ok(Cursor { path: self.path, rest, offset, end: self.offset })
    }

    pub(crate) fn number<T: Number>(&mut self, label: &dyn Display) -> Result<T> {
        let start = self.clone();
        let bytes = self.take(T::BYTES, label)?;
        T::first(bytes).ok_or_else(|| start.malformed(format!("{label} is cut short"), DAMAGED))
    }

    /// `count` numbers; allocates only what the file can fill.
    pub(crate) fn numbers<T: Number>(&mut self, count: u64, label: &dyn Display) -> Result<Vec<T>> {
        // Saturation is no escape: no file has that many bytes left.
        let bytes = self.take(count.saturating_mul(T::BYTES), label)?;
        Ok(T::all(bytes))
    }

    /// The next `count` bytes as text.
    pub(crate) fn text(&mut self, count: u64, label: &dyn Display) -> Result<&'a str> {
        let start = self.offset;
        let bytes = self.take(count, label)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let at = start + e.valid_up_to() as u64;
            FormatError::malformed(self.path, at, format!("{label} is no UTF-8"), DAMAGED)
        })
    }

    /// An error at the current position.
    pub(crate) fn malformed(&self, what: impl Into<String>, hint: &'static str) -> FormatError {
        FormatError::malformed(self.path, self.offset, what, hint)
    }

    /// A limit exceeded at the current position.
    pub(crate) fn limit(&self, what: impl Into<String>, hint: &'static str) -> FormatError {
        FormatError::limit(self.path, self.offset, what, hint)
    }
}
