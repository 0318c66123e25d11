//! The reasons why parts cannot be used.

use std::path::PathBuf;

use kquant_formats::FormatError;

use crate::shards::ShardsError;

/// The reason why parts cannot be used. No output is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The parts cannot be copied.
    #[error(transparent)]
    Shards(#[from] ShardsError),
    /// The folder holds no part.
    #[error("{}: holds no file like part-00001-of-00008.gguf; make parts with `kquant quantize ... --part 1/8 -o {}`", .0.display(), .0.display())]
    None(PathBuf),
    /// The folder holds parts of several divisions.
    #[error("{}: holds parts of {first} and parts of {second}; leave those of one run there", folder.display())]
    Divisions {
        /// The folder.
        folder: PathBuf,
        /// Number of parts of one division.
        first: u16,
        /// Number of parts of another one.
        second: u16,
    },
    /// Parts are missing, or have no record yet.
    #[error(
        "{}: {missing} of {count} parts are missing or not complete: {list}; make them with --part {first}/{count} and so on",
        folder.display()
    )]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// Number of missing parts.
        missing: usize,
        /// Number of all parts.
        count: u16,
        /// The missing ones, in words.
        list: String,
        /// Number of the first missing part, from 1.
        first: u16,
    },
    /// A record is not one.
    #[error("{}: is no record of a part ({what}); remove it and make the part again", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A part is of another run.
    #[error(
        "{}: is a part of another run than {other}: {what}; make it again with the same inputs, options and version of kquant",
        path.display()
    )]
    OtherRun {
        /// The part.
        path: PathBuf,
        /// What it was held against.
        other: String,
        /// What differs.
        what: String,
    },
    /// A part is not what its record says.
    #[error("{}: is not what was written ({what}); run the command of this part again", path.display())]
    Damaged {
        /// The part.
        path: PathBuf,
        /// What differs.
        what: String,
    },
}
