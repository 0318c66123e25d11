//! What the system allows of a file, asked for before a signal ends the run.

use std::io;

/// The most bytes that a file which this process writes may have (`ulimit -f`); the process is killed if it writes more.
#[cfg(unix)]
fn largest_file() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// The most bytes that a file which this process writes may have.
#[cfg(not(unix))]
fn largest_file() -> Option<u64> {
    None
}

/// Refuses a file of `bytes` bytes where the system would kill the process for it.
///
/// # Errors
/// When the limit is lower.
pub(crate) fn check_size(bytes: u64) -> io::Result<()> {
    match largest_file() {
        Some(limit) if bytes > limit => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{bytes} bytes are more than the limit of {limit} for a file; raise it with ulimit -f"),
        )),
        _ => Ok(()),
    }
}
