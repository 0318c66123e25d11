//! Hints to the system about what will be read soon and what was written.

use std::fs::File;
use std::ops::Range;

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
