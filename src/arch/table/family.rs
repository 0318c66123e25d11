//! A family as data, and what follows from it.

use kquant_formats::gguf::Value;

use super::dims::Sizes;
use super::keys::Keys;
use super::mapping::Table;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::heads;
use crate::arch::table::takes::Takes;
use crate::arch::{Architecture, Mapped};
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
    /// Values of keys that change the computation.
    pub takes: Takes,
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
        let config = &self.complete(config);
        Ok((self.keys)(config, &self.sizes(config)?)?.into_list())
    }

    fn map(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Mapped, ArchError> {
        let config = &self.complete(config);
        let sizes = self.sizes(config)?;
        let computed = (self.computed)(config, &sizes)?.into_iter().map(|(name, values)| MappedTensor {
            name: name.to_owned(),
            shape: vec![values.len() as u64],
            source: Source::Values(values),
            keep: Keep::F32,
        });
        let mut tensors: Vec<MappedTensor> = computed.chain(self.table.map(&sizes, checkpoint)?).collect();
        let mut warnings = self.takes.biases_that_differ(config, checkpoint)?;
        warnings.extend(heads::settle(config, self.name, &self.takes, checkpoint, &mut tensors)?);
        Ok(Mapped { tensors, warnings, limits: self.takes.limits(config, &sizes)? })
    }
}

impl Family {
    /// The configuration with transformers' default of the family where it has no base of the frequencies.
    fn complete(&self, config: &Config) -> Config {
        match self.takes.theta {
            Some(theta) => config.or(serde_json::json!({ "rope_theta": theta })),
            None => config.clone(),
        }
    }

    /// Dimensions of a model that the family can express.
    fn sizes(&self, config: &Config) -> Result<Sizes, ArchError> {
        let sizes = (self.sizes)(config)?;
        self.takes.check(config, self.name, &sizes, self.graph.yarn_truncated)?;
        Ok(sizes)
    }
}
