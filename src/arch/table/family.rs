//! A family as data, and what follows from it.

use kquant_formats::gguf::Value;

use super::dims::Sizes;
use super::keys::Keys;
use super::mapping::Table;
use crate::arch::Architecture;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::checkpoint::Checkpoint;
use crate::graph::Graph;
use crate::tensor::{Keep, MappedTensor, Source};

/// A model family as data.
pub(in crate::arch) struct Family {
    /// Name in GGUF.
    pub name: &'static str,
    /// Class names.
    pub classes: &'static [&'static str],
    /// Values of `model_type`.
    pub model_types: &'static [&'static str],
    /// Dimensions; refuses what the family cannot express.
    pub sizes: fn(&Config) -> Result<Sizes, ArchError>,
    /// GGUF keys in the converter's order.
    pub keys: fn(&Config, &Sizes) -> Result<Keys, ArchError>,
    /// Tensors.
    pub table: &'static Table,
    /// Tensors that are computed from the configuration: names and values.
    pub computed: fn(&Config, &Sizes) -> Result<Computed, ArchError>,
    /// The forward pass.
    pub graph: &'static Graph,
}

/// Names and values of computed tensors of one dimension.
pub(in crate::arch) type Computed = Vec<(&'static str, Vec<f32>)>;

/// For families that compute no tensors.
pub(in crate::arch) fn nothing(_: &Config, _: &Sizes) -> Result<Computed, ArchError> {
    Ok(Vec::new())
}

/// The error for a feature, a noun phrase with a verb, that `family` does not have.
pub(in crate::arch) fn unsupported(config: &Config, family: &'static str, what: String) -> ArchError {
    ArchError::Unsupported { file: config.origin().to_owned(), what, family }
}

impl Architecture for Family {
    fn classes(&self) -> &'static [&'static str] {
        self.classes
    }

    fn model_types(&self) -> &'static [&'static str] {
        self.model_types
    }

    fn gguf_name(&self) -> &'static str {
        self.name
    }

    fn graph(&self) -> &'static Graph {
        self.graph
    }

    fn keys(&self, config: &Config) -> Result<Vec<(String, Value)>, ArchError> {
        Ok((self.keys)(config, &(self.sizes)(config)?)?.into_list())
    }

    fn tensors(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<MappedTensor>, ArchError> {
        let sizes = (self.sizes)(config)?;
        let computed = (self.computed)(config, &sizes)?.into_iter().map(|(name, values)| MappedTensor {
            name: name.to_owned(),
            shape: vec![values.len() as u64],
            source: Source::Values(values),
            keep: Keep::F32,
        });
        Ok(computed.chain(self.table.map(&sizes, checkpoint)?).collect())
    }
}
