//! Types that the user names, with `--tensor-type REGEX=TYPE` or the options for embeddings and output.

use kquant_kernels::block::BlockType;
use regex::{Regex, RegexBuilder};

use super::roles::{PER_LAYER_EMBEDDING, Role};
use super::types::block_type;
use super::{Overrides, RecipeError, TensorFacts, eligible};

/// A type for every tensor whose GGUF name contains a match of a pattern, in any case.
#[derive(Debug, Clone)]
pub struct TensorType {
    pattern: Regex,
    /// Type of the tensors that match.
    pub block: &'static BlockType,
}

impl TensorType {
    /// Reads one `REGEX=TYPE`, where the type follows the last equals sign.
    ///
    /// # Errors
    /// Fails when a part is missing, the pattern is no regular expression, or kquant cannot write the type.
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

    /// Reads the text of a `--tensor-type-file`, which holds any number of `REGEX=TYPE` separated by white space.
    ///
    /// # Errors
    /// Fails as [`TensorType::parse`] does, for the first argument that is wrong.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, RecipeError> {
        text.split_whitespace().map(Self::parse).collect()
    }

    /// Returns the pattern as given.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// Returns whether the pattern matches anywhere in `name`.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name)
    }
}

impl Overrides {
    /// Returns whether any option names a type.
    pub(super) fn choose_types(&self) -> bool {
        self.output_tensor_type.is_some()
            || self.token_embedding_type.is_some()
            || !self.tensor_types.is_empty()
    }

    /// Returns the type that an option names for the tensor `name`. The options for embeddings and output take precedence
    /// over `--tensor-type`, except for the per-layer embeddings, where a `--tensor-type` that names them decides.
    pub(super) fn named(&self, name: &str, role: Role) -> Option<&'static BlockType> {
        let named = self.tensor_types.iter().find(|t| t.matches(name)).map(|t| t.block);
        let special = match role {
            Role::Embedding => self.token_embedding_type,
            Role::Output => self.output_tensor_type,
            _ => None,
        };
        if name == PER_LAYER_EMBEDDING { named.or(special) } else { special.or(named) }
    }

    /// Checks that every pattern has a tensor of a model of architecture `arch` to act on.
    pub(super) fn check(&self, arch: &str, tensors: &[TensorFacts]) -> Result<(), RecipeError> {
        let converts = |tensor: &TensorFacts| eligible::may_convert(arch, self.leave_output_tensor, tensor);
        for each in &self.tensor_types {
            let mut matched = tensors.iter().filter(|t| each.matches(t.name)).peekable();
            let Some(&first) = matched.peek() else {
                return Err(RecipeError::MatchesNothing { pattern: each.pattern().to_owned() });
            };
            if !matched.any(converts) {
                return Err(RecipeError::MatchesOnlyKept {
                    pattern: each.pattern().to_owned(),
                    tensor: first.name.to_owned(),
                });
            }
        }
        Ok(())
    }
}
