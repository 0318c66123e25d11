//! Model families: from a Hugging Face configuration and tensor list to GGUF's names, keys and sources.
//!
//! | file | what |
//! |---|---|
//! | `config` | `config.json`, with errors that name the key |
//! | `families` | one family each: a table, its keys and its forward pass |
//! | `table` | what families are written in: rows of tables, dimensions, keys, the one walk that maps a checkpoint |
//! | `general` | the `general.*` keys: card, name, size label |
//!
//! The next family is one file in `families/` and one line in its registry: docs/adding-an-architecture.md.

mod config;
mod error;
mod families;
mod general;
mod table;

pub use config::{Config, ConfigError};
pub use error::{ArchError, Mismatch, WrongShape};
pub use general::{Card, CardError, Surroundings, folder_name, metadata, remove_odd_sampling};

pub use table::windows::Limit;

use families::FAMILIES;
use kquant_formats::gguf::Value;

use crate::checkpoint::Checkpoint;
use crate::graph::Graph;
use crate::tensor::MappedTensor;

/// A model family.
pub trait Architecture: Sync {
    /// The class names that `config.json` may give in `architectures`.
    fn classes(&self) -> &'static [&'static str];

    /// The values of `model_type` that stand in where `architectures` is absent.
    fn model_types(&self) -> &'static [&'static str];

    /// The family's name in GGUF, the prefix of its keys.
    fn gguf_name(&self) -> &'static str;

    /// The family's forward pass, the same for all that share a GGUF name.
    fn graph(&self) -> &'static Graph;

    /// The family's hyper-parameters as GGUF keys with their prefix, in the order llama.cpp's converter writes them.
    ///
    /// # Errors
    /// When the configuration lacks a value, has one of a wrong type, or asks for what the family cannot express.
    fn keys(&self, config: &Config) -> Result<Vec<(String, Value)>, ArchError>;

    /// Every output tensor, and what the GGUF cannot say of the model. Reads the weights of two tensors at most, where the
    /// checkpoint has an output projection that the configuration ties to the embedding.
    ///
    /// # Errors
    /// As [`Architecture::keys`], and when the checkpoint's names or shapes are not what the configuration says.
    fn map(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Mapped, ArchError>;

    /// Every output tensor, in the order llama.cpp's converter writes them.
    ///
    /// # Errors
    /// As [`Architecture::map`].
    fn tensors(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<MappedTensor>, ArchError> {
        Ok(self.map(config, checkpoint)?.tensors)
    }
}

/// What a checkpoint becomes.
#[derive(Debug)]
pub struct Mapped {
    /// Every output tensor, in the order llama.cpp's converter writes them.
    pub tensors: Vec<MappedTensor>,
    /// Where the configuration and the tensors differ, and what was done about it.
    pub warnings: Vec<String>,
    /// Lengths from which on a GGUF of the model computes something else.
    pub limits: Vec<Limit>,
}

/// The forward pass of the architecture called `name` in GGUF.
pub fn graph(name: &str) -> Option<&'static Graph> {
    FAMILIES.iter().find(|family| family.gguf_name() == name).map(|family| family.graph())
}

/// The architectures that have one, by their names in GGUF.
pub fn graph_names() -> Vec<&'static str> {
    let mut names: Vec<_> = FAMILIES.iter().map(|family| family.gguf_name()).collect();
    names.dedup();
    names
}

/// One of a family's lists of names.
type Names = fn(&dyn Architecture) -> &'static [&'static str];

/// The family of the model that `config` describes.
///
/// The first entry of `architectures` decides; `model_type` does where there is none.
///
/// # Errors
/// When no family knows the class; the error lists those that are known.
pub fn find(config: &Config) -> Result<&'static dyn Architecture, ArchError> {
    let class = config.optional_first_text(&["architectures"])?;
    let (name, listed): (&str, Names) = match (class, config.optional_text(&["model_type"])?) {
        (Some(class), _) => (class, |family| family.classes()),
        (None, Some(model_type)) => (model_type, |family| family.model_types()),
        (None, None) => return Err(config.missing(&["architectures", "model_type"]).into()),
    };
    FAMILIES.iter().copied().find(|family| listed(*family).contains(&name)).ok_or_else(|| {
        ArchError::UnknownClass {
            file: config.origin().to_owned(),
            class: name.to_owned(),
            known: FAMILIES.iter().flat_map(|family| listed(*family)).copied().collect(),
        }
    })
}
