//! What can go wrong, divided by who is at fault.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// The system's answer; not called `source`, as the message has it already.
        cause: io::Error,
    },
    /// The bytes break the format's rules.
    #[error("{}{}: {what}; {hint}", path.display(), At(*offset))]
    Malformed {
        /// The file or folder.
        path: PathBuf,
        /// Where in the file, in bytes, if the fault has one place.
        offset: Option<u64>,
        /// What is wrong there.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The bytes may follow the format, but exceed what this reader takes on.
    #[error("{}{}: {what}; {hint}", path.display(), At(*offset))]
    Limit {
        /// The file or folder.
        path: PathBuf,
        /// Where in the file, in bytes, if the fault has one place.
        offset: Option<u64>,
        /// Which limit is exceeded and by what.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The output is there already and must not be overwritten.
    #[error("{} already exists and was left as it is; choose another name or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The output is there already and is no file that could be replaced.
    #[error(
        "{} is or leads to {kind}: an output would take its place, so it is refused with --force as well; choose another name",
        path.display()
    )]
    Special {
        /// The output.
        path: PathBuf,
        /// What is there.
        kind: &'static str,
    },
    /// The caller asked for something that the format cannot hold.
    #[error("{what}; {hint}")]
    Invalid {
        /// What was asked for.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
}

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Advice for files that end early or hold nonsense.
pub(crate) const DAMAGED: &str = "the file is truncated or damaged: fetch it again";

impl FormatError {
    pub(crate) fn io(path: &Path, action: &'static str, cause: io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, cause }
    }

    /// A parser that was given the first bytes of `path` needs more of them.
    pub(crate) fn more(path: &Path) -> Self {
        Self::io(path, "read", io::ErrorKind::UnexpectedEof.into())
    }

    /// Whether a parser needs more bytes, which the file has.
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

struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |offset| write!(f, " at byte {offset}"))
    }
}

/// Joins the first ten of `items`, and says how many more there are.
pub(crate) fn summary(items: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
