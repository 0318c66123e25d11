//! Files that hold tensor data, read one window at a time: mapped, or copied by positional reads.
//!
//! Only the windows that are alive are mapped, so that pages which were read do not pile up in the process. Both ways give
//! the same bytes.

mod extent;
mod io;

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{DAMAGED, FormatError, Result};
use crate::map::{map, open_regular};
use crate::scratch::read_exact_at;

pub use extent::Extent;
pub use io::Io;
pub(crate) use io::write_out;

/// Largest window in bytes that is copied even where others are mapped, since mapping and unmapping it would cost more.
const LEAST_MAPPED: u64 = 64 << 10;

/// Bytes of a header that are read at first. Each time that the header turns out longer, four times as many are read.
const FIRST_PREFIX: u64 = 256 << 10;

/// A file from which tensor data are read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    bytes: u64,
    mapped: bool,
}

/// Bytes of a file, mapped until this is dropped, or in the buffer that the caller gave.
#[derive(Debug)]
pub struct Window<'a>(Bytes<'a>);

#[derive(Debug)]
enum Bytes<'a> {
    Mapped(Mmap),
    Read(&'a [u8]),
}

impl<'a> Window<'a> {
    /// Makes a window of bytes that the caller has put together.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(Bytes::Read(bytes))
    }
}

impl Deref for Window<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

impl Source {
    /// Opens `path`, which must be a regular file (or a link to one).
    ///
    /// # Errors
    /// Fails when the file is missing, a folder, a pipe or a device, or cannot be opened.
    pub fn open(path: &Path, io: Io) -> Result<Self> {
        let (file, bytes) = open_regular(path)?;
        let mapped = io.maps(&file);
        Ok(Self { path: path.to_owned(), file, bytes, mapped })
    }

    /// Returns the path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the size in bytes that the file had when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns whether windows are mapped; otherwise, they are copied.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Returns the place of the whole file.
    pub fn whole(&self) -> Extent<'_> {
        Extent { source: self, offset: 0, bytes: self.bytes }
    }

    /// Returns the bytes of `range`. Where they are copied, `buffer` grows to hold them.
    ///
    /// # Errors
    /// Fails when the range reaches past the end of the file, even if the file has shrunk since it was opened, or when the
    /// system cannot read or map the range.
    pub fn window<'a>(&self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<Window<'a>> {
        let length = range.end.saturating_sub(range.start);
        if !self.mapped || length <= LEAST_MAPPED {
            let size = usize::try_from(length).map_err(|_| self.cut_short(&range))?;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let out = buffer.get_mut(..size).unwrap_or_default();
            self.read_at(range.start, out)?;
            return Ok(Window(Bytes::Read(out)));
        }
        // Touching a page past the end would kill the process.
        let now = self.file.metadata().map_err(|e| FormatError::io(&self.path, "read", e))?.len();
        if range.end > now {
            return Err(self.cut_short(&range));
        }
        let map = map(&self.file, range).map_err(|e| FormatError::io(&self.path, "map", e))?;
        Ok(Window(Bytes::Mapped(map)))
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Fails as [`window`](Self::window) does.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, offset, out).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                self.cut_short(&(offset..offset.saturating_add(out.len() as u64)))
            }
            _ => FormatError::io(&self.path, "read", e),
        })
    }

    /// Tells the system that `range` will be read soon, so that it can read while the processor works on something else.
    pub fn will_need(&self, range: Range<u64>) {
        io::will_need(&self.file, range);
    }

    /// Parses the start of the file with `parse`, which gets a prefix and returns [`FormatError::wants_more`] where that is
    /// too short; the prefix then grows.
    pub(crate) fn parse<T>(&self, parse: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
        let mut buffer = Vec::new();
        let mut size = FIRST_PREFIX.min(self.bytes);
        loop {
            // The prefix is never mapped: headers are small, and they are parsed more than once if they are not.
            let length = usize::try_from(size).map_err(|_| self.cut_short(&(0..size)))?;
            buffer.resize(length, 0);
            self.read_at(0, &mut buffer)?;
            match parse(&buffer) {
                Err(e) if e.wants_more() && size < self.bytes => {
                    size = size.saturating_mul(4).min(self.bytes);
                }
                result => return result,
            }
        }
    }

    fn cut_short(&self, range: &Range<u64>) -> FormatError {
        let what =
            format!("ends before byte {}, though it had {} bytes when it was opened", range.end, self.bytes);
        FormatError::malformed(&self.path, range.start, what, DAMAGED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn content() -> Vec<u8> {
        (0..300_000u32).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn both_ways_give_the_same_bytes() {
        let content = content();
        let file = file(&content);
        for io in [Io::Auto, Io::Mmap, Io::Pread] {
            let source = Source::open(file.path(), io).unwrap();
            let mut buffer = Vec::new();
            for range in [0..0, 0..10, 5..70_000, 4096..200_000, 299_999..300_000, 0..300_000, 7..8] {
                source.will_need(range.clone());
                let window = source.window(range.clone(), &mut buffer).unwrap();
                assert!(*window == content[range.start as usize..range.end as usize], "{io:?} {range:?}");
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        for io in [Io::Mmap, Io::Pread] {
            let file = file(&content());
            let source = Source::open(file.path(), io).unwrap();
            file.as_file().set_len(100_000).unwrap();
            let mut buffer = Vec::new();
            assert!(source.window(0..100_000, &mut buffer).is_ok());
            for range in [0..200_000, 99_999..100_001, 150_000..160_000] {
                let message = source.window(range.clone(), &mut buffer).unwrap_err().to_string();
                assert!(message.contains(&format!("at byte {}", range.start)), "{message}");
                assert!(
                    message.contains("had 300000 bytes") && message.contains("fetch it again"),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn headers_are_read_as_far_as_they_reach() {
        let content = content();
        let file = file(&content);
        let source = Source::open(file.path(), Io::Auto).unwrap();
        let want = |n: usize| {
            source.parse(|bytes| match bytes.get(..n) {
                Some(_) => Ok(bytes.len()),
                None => Err(FormatError::more(source.path())),
            })
        };
        assert_eq!(want(10).unwrap(), 256 << 10);
        assert_eq!(want(299_000).unwrap(), 300_000);
        assert!(want(300_001).unwrap_err().wants_more());
    }
}
