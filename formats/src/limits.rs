//! The system's limits on files, checked in advance: exceeding some ends the process with a signal, and others show only after hours.

use std::fs::File;
use std::io;

/// Returns the largest size in bytes that this process may give to a file (`ulimit -f`). The system kills the process if it
/// writes more.
#[cfg(unix)]
fn largest_file() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// Returns `None`: there is no such limit here.
#[cfg(not(unix))]
fn largest_file() -> Option<u64> {
    None
}

/// Refuses a file of `bytes` bytes that the system would kill the process for.
///
/// # Errors
/// Fails when the process may not write files of that size.
pub(crate) fn check_size(bytes: u64) -> io::Result<()> {
    match largest_file() {
        Some(limit) if bytes > limit => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{bytes} bytes are more than the limit of {limit} for a file; raise it with ulimit -f"),
        )),
        _ => Ok(()),
    }
}

/// Returns the bytes that are free where `file` lies; `None` where the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn free(file: &File) -> Option<u64> {
    // File systems of some programs say that they have no blocks at all.
    let found = rustix::fs::fstatvfs(file).ok().filter(|found| found.f_blocks > 0)?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// Returns `None`: the system is not asked.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn free(_file: &File) -> Option<u64> {
    None
}

/// Refuses to write `bytes` bytes where `file`, a file or folder, lies, if there is no room for them.
///
/// # Errors
/// Fails when fewer bytes are free.
pub(crate) fn check_room(file: &File, bytes: u64) -> io::Result<()> {
    match free(file) {
        Some(free) if bytes > free => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{bytes} bytes are to be written there, and {free} are free"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_no_disk_is_refused() {
        let folder = File::open(std::env::temp_dir()).unwrap();
        check_room(&folder, 1).unwrap();
        if free(&folder).is_some() {
            let message = check_room(&folder, u64::MAX).unwrap_err().to_string();
            assert!(message.contains("are free"), "{message}");
        }
    }
}
