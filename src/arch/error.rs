//! Errors of mapping a checkpoint to GGUF.

use std::fmt;

use super::ConfigError;

/// The reason why a checkpoint cannot be mapped to GGUF.
#[derive(Debug, thiserror::Error)]
pub enum ArchError {
    /// The configuration is unreadable, incomplete or contradictory.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No family lists the class.
    #[error(
        "{file}: architecture \"{class}\" is not supported yet; the nearest that are: {}. docs/architectures.md lists all, \
         docs/adding-an-architecture.md says how to add one",
        nearest.join(", ")
    )]
    UnknownClass {
        /// Path of the configuration file.
        file: String,
        /// The class, or the model type if no class is given.
        class: String,
        /// Known classes or model types whose names are most alike.
        nearest: Vec<&'static str>,
    },
    /// The family does not have a feature of this model.
    #[error("{file}: {what} not yet supported for architecture {family}")]
    Unsupported {
        /// Path of the configuration file.
        file: String,
        /// The feature, with its key and a verb.
        what: String,
        /// GGUF name of the family.
        family: &'static str,
    },
    /// Weights that affect the mapping could not be read.
    #[error("{0}")]
    Read(String),
    /// Names or shapes differ from those that the configuration implies.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
}

/// All differences between a checkpoint and its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// GGUF name of the family.
    pub family: &'static str,
    /// Names of checkpoint tensors that map to nothing.
    pub unknown: Vec<String>,
    /// Checkpoint names of missing tensors.
    pub missing: Vec<String>,
    /// Names of checkpoint tensors that map to the same output as another one.
    pub repeated: Vec<String>,
    /// Tensors whose shape contradicts the configuration.
    pub shapes: Vec<WrongShape>,
}

/// A tensor whose shape contradicts the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongShape {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape that the configuration implies, outermost dimension first.
    pub expected: Vec<u64>,
    /// Shape in the checkpoint, outermost dimension first.
    pub actual: Vec<u64>,
}

impl fmt::Display for WrongShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}, expected {:?}", self.name, self.actual, self.expected)
    }
}

impl Mismatch {
    pub(super) fn is_empty(&self) -> bool {
        self.unknown.is_empty()
            && self.missing.is_empty()
            && self.repeated.is_empty()
            && self.shapes.is_empty()
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the checkpoint is not the {} model that its config.json describes", self.family)?;
        list(f, "tensors that map to nothing", &self.unknown)?;
        list(f, "missing tensors", &self.missing)?;
        list(f, "tensors present under two names", &self.repeated)?;
        list(f, "tensors of a wrong shape", &self.shapes)
    }
}

/// Number of names shown per list; a wrong class causes hundreds.
const SHOWN: usize = 8;

fn list(f: &mut fmt::Formatter<'_>, title: &str, items: &[impl fmt::Display]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    write!(f, "; {title} ({}): {}", items.len(), shown.join(", "))?;
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}
