//! Model families, which map a Hugging Face configuration and tensor list to GGUF's names, keys and sources.
//!
//! | file | what |
//! |---|---|
//! | `config` | `config.json`, with errors that name the key |
//! | `families` | one family each: a table, its keys and its forward pass |
//! | `table` | what families are written in: rows of tables, dimensions, keys, the one walk that maps a checkpoint |
//! | `general` | the `general.*` keys: card, name, size label |
//!
//! A new family is one file in `families/` and one line in its registry: docs/adding-an-architecture.md.

mod config;
mod error;
mod families;
mod general;
mod table;

pub use config::{Config, ConfigError};
pub use error::{ArchError, Mismatch, WrongShape};
pub use general::{
    Card, CardError, Pooling, Surroundings, derived, folder_name, metadata, pooling, remove_odd_sampling,
};

pub use table::windows::Limit;

use families::FAMILIES;
use kquant_formats::gguf::Value;

use crate::checkpoint::Checkpoint;
use crate::graph::Graph;
use crate::tensor::MappedTensor;

/// A model family.
pub trait Architecture: Sync {
    /// Returns the class names that `config.json` may give in `architectures`.
    fn classes(&self) -> &'static [&'static str];

    /// Returns the values of `model_type` that decide if `architectures` is absent.
    fn model_types(&self) -> &'static [&'static str];

    /// Returns true if `config`, whose class is one of the family's, is of the family and not of another one that shares the class.
    fn is_of(&self, config: &Config) -> bool;

    /// Returns the family's name in GGUF, which is the prefix of its keys.
    fn gguf_name(&self) -> &'static str;

    /// Returns the family's forward pass, the same for all families that share a GGUF name.
    fn graph(&self) -> &'static Graph;

    /// Returns the family's hyper-parameters as GGUF keys with their prefix, in the order in which llama.cpp's converter
    /// writes them.
    ///
    /// # Errors
    /// Fails when the configuration lacks a value, has one of a wrong type, or asks for what the family cannot express.
    fn keys(&self, config: &Config) -> Result<Vec<(String, Value)>, ArchError>;

    /// Returns the keys, with their prefix, whose values are numbers that the checkpoint stores as tensors; the converter writes them
    /// before all others.
    ///
    /// # Errors
    /// Fails as [`Architecture::keys`] does, and when a number is missing or cannot be read.
    fn stored_keys(
        &self,
        config: &Config,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Vec<(String, Value)>, ArchError>;

    /// Returns true if checkpoint tensor `name` becomes a part of a key, and no tensor.
    fn is_stored_key(&self, name: &str) -> bool;

    /// Maps every output tensor, with notes on what the GGUF cannot express. Reads the weights of at most two tensors, if
    /// the checkpoint has an output projection that the configuration ties to the embedding.
    ///
    /// # Errors
    /// Fails as [`Architecture::keys`] does, and when the checkpoint's names or shapes contradict the configuration.
    fn map(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Mapped, ArchError>;

    /// Returns the shapes, outermost dimension first, that checkpoint tensors called `names` have in the model that `config`
    /// describes; `None` for names that it has no tensors of.
    ///
    /// # Errors
    /// Fails as [`Architecture::keys`] does.
    fn stored_shapes(&self, config: &Config, names: &[&str]) -> Result<Vec<Option<Vec<u64>>>, ArchError>;

    /// Returns every output tensor, in the order in which llama.cpp's converter writes them.
    ///
    /// # Errors
    /// Fails as [`Architecture::map`] does.
    fn tensors(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<MappedTensor>, ArchError> {
        Ok(self.map(config, checkpoint)?.tensors)
    }
}

/// Returns true if checkpoint tensor `name` belongs to the text model, and not to another modality beside it.
pub fn is_stored_text(name: &str) -> bool {
    table::mapping::name_in_text(name).is_some()
}

/// Returns the name that checkpoint tensor `name` has in layer `layer`; that of a tensor outside the layers stays.
pub fn stored_in_layer(name: &str, layer: u32) -> String {
    let (pattern, place) = table::place::pattern(name);
    table::place::Place { layer: place.layer.and(Some(layer)), ..place }.name(&pattern)
}

/// The result of mapping a checkpoint.
#[derive(Debug)]
pub struct Mapped {
    /// All output tensors, in the order in which llama.cpp's converter writes them.
    pub tensors: Vec<MappedTensor>,
    /// Sentences on differences between the configuration and the tensors, and their consequences.
    pub warnings: Vec<String>,
    /// Lengths from which on a GGUF of the model computes something else.
    pub limits: Vec<Limit>,
}

/// Returns the forward pass of the architecture called `name` in GGUF.
pub fn graph(name: &str) -> Option<&'static Graph> {
    FAMILIES.iter().find(|family| family.gguf_name() == name).map(|family| family.graph())
}

/// Returns the GGUF names of the architectures that have a forward pass.
pub fn graph_names() -> Vec<&'static str> {
    let mut names: Vec<_> = FAMILIES.iter().map(|family| family.gguf_name()).collect();
    names.dedup();
    names
}

/// A method that returns one of a family's lists of names.
type Names = fn(&dyn Architecture) -> &'static [&'static str];

/// Returns the family of the model that `config` describes.
///
/// The first entry of `architectures` decides or, if there is none, `model_type`; where families share a class, the rest of the
/// configuration does.
///
/// # Errors
/// Fails when no family lists the class; the error names the known classes.
pub fn find(config: &Config) -> Result<&'static dyn Architecture, ArchError> {
    let class = config.optional_first_text(&["architectures"])?;
    let (name, listed): (&str, Names) = match (class, config.optional_text(&["model_type"])?) {
        (Some(class), _) => (class, |family| family.classes()),
        (None, Some(model_type)) => (model_type, |family| family.model_types()),
        (None, None) => return Err(config.missing(&["architectures", "model_type"]).into()),
    };
    let mut families = FAMILIES.iter().copied();
    families.find(|family| listed(*family).contains(&name) && family.is_of(config)).ok_or_else(|| {
        let known = FAMILIES.iter().flat_map(|family| listed(*family)).copied();
        ArchError::UnknownClass {
            file: config.origin().to_owned(),
            class: name.to_owned(),
            nearest: nearest(name, known),
        }
    })
}

/// Returns the three of `known` whose names are most like `name`, the likest first.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut all: Vec<_> = known.map(|other| (strsim::jaro_winkler(name, other), other)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    all.dedup();
    all.into_iter().take(3).map(|(_, other)| other).collect()
}

/// Returns all families as a table in Markdown: the name in GGUF, the classes of Hugging Face, the types of models.
pub fn table_of_families() -> String {
    let mut out = "| in GGUF | classes | `model_type` |\n|---|---|---|\n".to_owned();
    for family in FAMILIES {
        let list =
            |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (classes, types) = (list(family.classes()), list(family.model_types()));
        out += &format!("| `{}` | {classes} | {types} |\n", family.gguf_name());
    }
    out
}
