//! The system's limits on files, checked in advance because exceeding them ends the process with a signal.

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
