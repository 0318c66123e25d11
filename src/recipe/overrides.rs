//! `--tensor-type REGEX=TYPE`.

use kquant_kernels::block::BlockType;
use regex::{Regex, RegexBuilder};

use super::types::block_type;
use super::{RecipeError, TensorFacts};

/// A type for every tensor whose GGUF name contains a match of a pattern, in any case.
#[derive(Debug, Clone)]
pub struct TensorType {
    pattern: Regex,
    /// The type.
    pub block: &'static BlockType,
}

impl TensorType {
    /// Reads one `REGEX=TYPE`; the type follows the last equals sign.
    ///
    /// # Errors
    /// When a part is missing, the pattern is no regular expression, or kquant cannot write the type.
    pub fn parse(argument: &str) -> Result<Self, RecipeError> {
        let malformed = || RecipeError::MalformedOverride { argument: argument.to_owned() };
        let (pattern, name) = argument.rsplit_once('=').ok_or_else(malformed)?;
        if pattern.is_empty() || name.is_empty() {
            return Err(malformed());
        }
        let pattern = RegexBuilder::new(pattern)
            .case_insensitive(true)
            .build()
            .map_err(|e| RecipeError::BadPattern { pattern: pattern.to_owned(), why: e.to_string() })?;
        Ok(Self { pattern, block: block_type(name)? })
    }

    /// Reads the text of a `--tensor-type-file`: any number of `REGEX=TYPE`, separated by white space.
    ///
    /// # Errors
    /// As [`TensorType::parse`], for the first argument that is wrong.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, RecipeError> {
        text.split_whitespace().map(Self::parse).collect()
    }

    /// The pattern as given.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// Whether the pattern matches anywhere in `name`.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name)
    }
}

/// Checks that every override has a tensor to act on; `converts` tells which tensors may get another type.
pub(super) fn check_matches(
    overrides: &[TensorType],
    tensors: &[TensorFacts],
    converts: impl Fn(&TensorFacts) -> bool,
) -> Result<(), RecipeError> {
    for each in overrides {
        let mut matched = tensors.iter().filter(|t| each.matches(t.name)).peekable();
        let Some(&first) = matched.peek() else {
            return Err(RecipeError::MatchesNothing { pattern: each.pattern().to_owned() });
        };
        if !matched.any(&converts) {
            return Err(RecipeError::MatchesOnlyKept {
                pattern: each.pattern().to_owned(),
                tensor: first.name.to_owned(),
            });
        }
    }
    Ok(())
}
