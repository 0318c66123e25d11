//! The way in which files are read, by maps or by copies, as requested or as the file system needs it.

use std::fs::File;
use std::ops::Range;

/// The way in which tensor data are read; the bytes are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Io {
    /// The way that suits the file system: [`Pread`](Self::Pread) on network volumes and on file systems that programs
    /// provide (NFS, SMB, FUSE, 9p and the like), [`Mmap`](Self::Mmap) elsewhere. Only Linux is queried; other systems count
    /// as local.
    #[default]
    Auto,
    /// Files are mapped into memory, which saves copies but waits for each page where pages come over a network.
    Mmap,
    /// Files are copied by positional reads of many pages at once.
    Pread,
}

impl Io {
    /// Returns whether `file` is to be mapped.
    pub(super) fn maps(self, file: &File) -> bool {
        match self {
            Self::Auto => !is_remote(file),
            Self::Mmap => true,
            Self::Pread => false,
        }
    }
}

/// Types of file systems (`f_type` of statfs) whose pages do not come from a local disk.
#[cfg(any(target_os = "linux", target_os = "android"))]
const REMOTE: [u32; 16] = [
    0x0000_6969, // NFS
    0x0000_517b, // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2
    0x6573_5546, // FUSE, virtiofs
    0x0102_1997, // 9p
    0x00c3_6400, // Ceph
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x5346_414f, // AFS
    0x7375_7245, // Coda
    0x7461_636f, // OCFS2
    0x0116_1970, // GFS2
    0x0000_564c, // NCP
    0x786f_4256, // shared folders of VirtualBox
];

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_remote(file: &File) -> bool {
    // A file system that does not answer is taken for a local one. Only the low half of the word is defined.
    rustix::fs::fstatfs(file).is_ok_and(|s| REMOTE.contains(&(s.f_type as u32)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_remote(_file: &File) -> bool {
    false
}

/// Starts reading `range` into the system's cache.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn will_need(file: &File, range: Range<u64>) {
    // Linux reads no more for one call than the largest request of the disk, which often is this many bytes.
    const STEP: usize = 128 << 10;
    for start in range.clone().step_by(STEP) {
        let length = std::num::NonZeroU64::new((range.end - start).min(STEP as u64));
        // The call is a hint: where it is ignored, reading is only slower.
        let _ = rustix::fs::fadvise(file, start, length, rustix::fs::Advice::WillNeed);
    }
}

/// Starts writing `range` of a file under construction to the disk, without waiting for the end.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn write_out(file: &File, range: Range<u64>) {
    let length = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
    // Linux writes dirty pages that are declared unneeded, and keeps those that it cannot drop yet.
    let _ = rustix::fs::fadvise(file, range.start, length, rustix::fs::Advice::DontNeed);
}

/// Does nothing, as the system has no such hint.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn will_need(_file: &File, _range: Range<u64>) {}

/// Does nothing, as the system has no such hint.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn write_out(_file: &File, _range: Range<u64>) {}
