//! Errors of readers and writers, by who is at fault.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The reason why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that was tried, as a verb.
        action: &'static str,
        /// The system's answer. The field is not called `source`, since the message contains it already.
        cause: io::Error,
    },
    /// The bytes break the format's rules.
    #[error("{}{}: {what}; {hint}", path.display(), At(*offset))]
    Malformed {
        /// The file or folder.
        path: PathBuf,
        /// Offset of the fault in bytes, if it has one place.
        offset: Option<u64>,
        /// Description of the fault.
        what: String,
        /// Advice to the user.
        hint: &'static str,
    },
    /// The bytes may follow the format but exceed a limit of this reader.
    #[error("{}{}: {what}; {hint}", path.display(), At(*offset))]
    Limit {
        /// The file or folder.
        path: PathBuf,
        /// Offset of the fault in bytes, if it has one place.
        offset: Option<u64>,
        /// The limit and the value that exceeds it.
        what: String,
        /// Advice to the user.
        hint: &'static str,
    },
    /// The output exists already and must not be overwritten.
    #[error("{} already exists and was left as it is; choose another name or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The output exists already and is no file that could be replaced.
    #[error(
        "{} is or leads to {kind}: an output would take its place, so it is refused with --force as well; choose another name",
        path.display()
    )]
    Special {
        /// The output.
        path: PathBuf,
        /// Kind of the thing that exists there, in words.
        kind: &'static str,
    },
    /// The caller asked for something that the format cannot hold.
    #[error("{what}; {hint}")]
    Invalid {
        /// Description of the request.
        what: String,
        /// Advice to the caller.
        hint: &'static str,
    },
}

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Advice for files that end early or hold nonsense.
pub(crate) const DAMAGED: &str = "the file is truncated or damaged: fetch it again";

impl FormatError {
    /// Returns the error of the system's answer `cause` to an attempt to `action`, a verb, at `path`.
    pub fn io(path: &Path, action: &'static str, cause: io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, cause }
    }

    /// Returns the error of a parser that needs more than the prefix of `path` that it was given.
    pub(crate) fn more(path: &Path) -> Self {
        Self::io(path, "read", io::ErrorKind::UnexpectedEof.into())
    }

    /// Returns whether a parser failed only because its prefix of the file was too short.
    pub(crate) fn wants_more(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::UnexpectedEof)
    }

    pub(crate) fn malformed(
        path: &Path,
        offset: impl Into<Option<u64>>,
        what: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self::Malformed { path: path.to_owned(), offset: offset.into(), what: what.into(), hint }
    }

    pub(crate) fn limit(
        path: &Path,
        offset: impl Into<Option<u64>>,
        what: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self::Limit { path: path.to_owned(), offset: offset.into(), what: what.into(), hint }
    }
}

/// Shows an offset as ` at byte N`, and nothing where there is none.
struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |offset| write!(f, " at byte {offset}"))
    }
}

/// Joins the first ten of `items` and adds the number of the others.
pub(crate) fn summary(items: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
