//! Helpers that the tests share: scratch folders, a byte-level builder, and checks of errors.

pub mod mutants;
pub mod readers;
pub mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kquant_formats::FormatError;
pub use readers::types;

/// A folder of one test, which is removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kquant-formats-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes `bytes` to the file `name` in the folder.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Returns the names of the files in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the path of a file of tests/data.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Bytes that are put together piece by piece, valid or not.
#[derive(Clone, Default)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn u8(self, v: u8) -> Self {
        self.bytes(&[v])
    }

    pub fn u32(self, v: u32) -> Self {
        self.bytes(&v.to_le_bytes())
    }

    pub fn i32(self, v: i32) -> Self {
        self.bytes(&v.to_le_bytes())
    }

    pub fn u64(self, v: u64) -> Self {
        self.bytes(&v.to_le_bytes())
    }

    pub fn f32s(self, values: &[f32]) -> Self {
        values.iter().fold(self, |raw, v| raw.bytes(&v.to_le_bytes()))
    }

    /// Appends text as GGUF stores it: a 64-bit length and the bytes.
    pub fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    pub fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// Appends zeros up to a multiple of `alignment`.
    pub fn pad(mut self, alignment: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        self
    }
}

/// Checks that `result` is an error that names `path` and contains `fragment`.
pub fn check_error<T>(case: &str, result: Result<T, FormatError>, path: &Path, fragment: &str) {
    let message = match result {
        Ok(_) => panic!("{case}: was accepted, but {fragment:?} is expected"),
        Err(error) => error.to_string(),
    };
    let file = path.file_name().unwrap().to_string_lossy();
    assert!(message.contains(&*file), "{case}: the file is not named: {message}");
    assert!(message.contains(fragment), "{case}: expected {fragment:?} in: {message}");
}

/// Fails if this process has ever asked the system for more memory than a reader of small files can need.
///
/// The check looks at address space and not at resident memory, since an allocation that a hostile count asked for is never
/// touched.
#[track_caller]
pub fn check_memory() {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib: u64 = peak.unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 2 << 20, "peak address space of {} MiB", kib >> 10);
}
