//! Files that hold tensor data, read by positional reads.
//!
//! Nothing is mapped into memory: touching a mapped page that a cut of the file took away would end the process, whereas a read
//! reports it. Copies cost nothing that can be measured beside encoding or hashing.

mod extent;
mod hints;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{DAMAGED, FormatError, Result};
use crate::pointers::check_file;
use crate::scratch::read_exact_at;
use crate::whole;

pub use extent::Extent;
pub(crate) use hints::write_out;

/// Bytes of a header that are read at first. Each time that the header turns out longer, four times as many are read.
const FIRST_PREFIX: u64 = 256 << 10;

/// Number of files of one model that stay open. Many systems allow a process 1,024 open files, and some models have more shards, so
/// that further ones are opened for each read.
const KEPT_OPEN: usize = 128;

/// A file from which tensor data are read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    /// The file, if it stays open.
    file: Option<File>,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens `path`, which must be a regular file (or a link to one) and no Git LFS pointer.
    ///
    /// # Errors
    /// Fails when the file is missing, a folder, a pipe or a device, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        // The kind is queried before opening, since opening a pipe would wait for its writer.
        let kind = fs::metadata(path).map_err(|e| FormatError::io(path, "open", e))?;
        if let Some(reason) = whole::not_regular(kind.file_type()) {
            return Err(FormatError::io(path, "read", reason));
        }
        let open = || File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) = open().map_err(|e| FormatError::io(path, "open", e))?;
        check_file(path, &file, found.len())?;
        // Some systems do not know when a file was changed.
        let modified = found.modified().ok();
        Ok(Self { path: path.to_owned(), file: Some(file), bytes: found.len(), modified })
    }

    /// Opens `path` as [`open`](Self::open) does, as file number `number` of a model that may have more files than a process can keep
    /// open.
    ///
    /// # Errors
    /// Fails as [`open`](Self::open) does.
    pub(crate) fn open_shard(path: &Path, number: usize) -> Result<Self> {
        let mut source = Self::open(path)?;
        if number >= KEPT_OPEN {
            source.file = None;
        }
        Ok(source)
    }

    /// Calls `act` with the file, which is opened if it did not stay open.
    fn with_file<T>(&self, act: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        if let Some(file) = &self.file {
            return act(file);
        }
        let open = || File::open(&self.path).and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) = open().map_err(|e| FormatError::io(&self.path, "open", e))?;
        if found.modified().ok() != self.modified {
            return Err(FormatError::malformed(
                &self.path,
                None,
                "was changed while it was being read",
                DAMAGED,
            ));
        }
        act(&file)
    }

    /// Returns the path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the size in bytes that the file had when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the place of the whole file.
    pub fn whole(&self) -> Extent<'_> {
        Extent { source: self, offset: 0, bytes: self.bytes }
    }

    /// Returns the bytes of `range`, read into `buffer`, which grows to hold them.
    ///
    /// # Errors
    /// Fails when the range reaches past the end of the file, even if the file has shrunk since it was opened, or when the
    /// system cannot read it.
    pub fn window<'a>(&self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let length = range.end.saturating_sub(range.start);
        let size = usize::try_from(length).map_err(|_| self.cut_short(&range))?;
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        let out = buffer.get_mut(..size).unwrap_or_default();
        self.read_at(range.start, out)?;
        Ok(out)
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Fails as [`window`](Self::window) does.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let range = offset..offset.saturating_add(out.len() as u64);
        self.with_file(|file| {
            read_exact_at(file, offset, out).map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => self.cut_short(&range),
                _ => FormatError::io(&self.path, "read", e),
            })
        })
    }

    /// Returns whether the file begins with `magic`; a shorter file does not.
    ///
    /// # Errors
    /// Fails when the system cannot read.
    pub(crate) fn starts_with(&self, magic: &[u8]) -> Result<bool> {
        let mut start = vec![0; magic.len()];
        if self.bytes < magic.len() as u64 {
            return Ok(false);
        }
        self.read_at(0, &mut start)?;
        Ok(start == magic)
    }

    /// Tells the system that `range` will be read soon, so that it can read while the processor works on something else.
    pub fn will_need(&self, range: Range<u64>) {
        if let Some(file) = &self.file {
            hints::will_need(file, range);
        }
    }

    /// Parses the start of the file with `parse`, which gets a prefix and returns [`FormatError::wants_more`] where that is
    /// too short; the prefix then grows.
    pub(crate) fn parse<T>(&self, parse: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
        let mut buffer = Vec::new();
        let mut size = FIRST_PREFIX.min(self.bytes);
        loop {
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
    fn windows_are_the_bytes_of_the_file() {
        let content = content();
        let file = file(&content);
        let source = Source::open(file.path()).unwrap();
        let mut buffer = Vec::new();
        for range in [0..0, 0..10, 5..70_000, 4096..200_000, 299_999..300_000, 0..300_000, 7..8] {
            source.will_need(range.clone());
            let window = source.window(range.clone(), &mut buffer).unwrap();
            assert!(*window == content[range.start as usize..range.end as usize], "{range:?}");
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let file = file(&content());
        let source = Source::open(file.path()).unwrap();
        file.as_file().set_len(100_000).unwrap();
        let mut buffer = Vec::new();
        assert!(source.window(0..100_000, &mut buffer).is_ok());
        for range in [0..200_000, 99_999..100_001, 150_000..160_000] {
            let message = source.window(range.clone(), &mut buffer).unwrap_err().to_string();
            assert!(message.contains(&format!("at byte {}", range.start)), "{message}");
            assert!(message.contains("had 300000 bytes") && message.contains("fetch it again"), "{message}");
        }
    }

    #[test]
    fn shards_that_do_not_stay_open_are_read_and_watched() {
        let file = file(&content());
        let source = Source::open_shard(file.path(), KEPT_OPEN).unwrap();
        let mut buffer = Vec::new();
        assert!(*source.window(1000..70_000, &mut buffer).unwrap() == content()[1000..70_000]);
        file.as_file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let message = source.window(0..10, &mut buffer).unwrap_err().to_string();
        assert!(message.contains("was changed while it was being read"), "{message}");
    }

    #[test]
    fn folders_and_devices_are_refused() {
        let folder = std::env::temp_dir();
        let message = Source::open(&folder).unwrap_err().to_string();
        assert!(message.contains("cannot read") && message.contains(&*folder.to_string_lossy()), "{message}");
        #[cfg(unix)]
        {
            let message = Source::open(Path::new("/dev/null")).unwrap_err().to_string();
            assert!(message.contains("not a regular file"), "{message}");
        }
    }

    #[test]
    fn headers_are_read_as_far_as_they_reach() {
        let content = content();
        let file = file(&content);
        let source = Source::open(file.path()).unwrap();
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
