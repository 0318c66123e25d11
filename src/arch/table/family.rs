//! A family as data, and the implementation of [`Architecture`] that follows from it.

use kquant_formats::gguf::Value;

use super::dims::Sizes;
use super::keys::Keys;
use super::mapping::Table;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::heads;
use crate::arch::table::takes::Takes;
use crate::arch::{Architecture, Mapped};
use crate::checkpoint::{Checkpoint, TensorInfo, is_dense};
use crate::graph::Graph;
use crate::tensor::{Keep, MappedTensor, RowOrder, Source};

/// A model family as data.
pub(in crate::arch) struct Family {
    /// Name of the family in GGUF.
    pub name: &'static str,
    /// Class names in `architectures`.
    pub classes: &'static [&'static str],
    /// Values of `model_type`.
    pub model_types: &'static [&'static str],
    /// Function that reads the dimensions and refuses what the family cannot express.
    pub sizes: fn(&Config) -> Result<Sizes, ArchError>,
    /// Function that returns the GGUF keys in the converter's order.
    pub keys: fn(&Config, &Sizes) -> Result<Keys, ArchError>,
    /// Table of the tensors.
    pub table: &'static Table,
    /// Function that returns names and values of tensors that are computed from the configuration.
    pub computed: fn(&Config, &Sizes) -> Result<Computed, ArchError>,
    /// Values that keys which change the computation may have.
    pub takes: Takes,
    /// The forward pass, as a graph.
    pub graph: &'static Graph,
}

/// Names and values of computed tensors of one dimension.
pub(in crate::arch) type Computed = Vec<(&'static str, Vec<f32>)>;

/// Returns no tensors, for families that compute none.
pub(in crate::arch) fn nothing(_: &Config, _: &Sizes) -> Result<Computed, ArchError> {
    Ok(Vec::new())
}

/// Returns the dense layers after the pooling, which keep their names.
fn dense(checkpoint: &dyn Checkpoint) -> impl Iterator<Item = MappedTensor> {
    dense_names(checkpoint).map(|(index, info)| MappedTensor {
        name: info.name.clone(),
        shape: info.shape.iter().rev().copied().collect(),
        source: Source::Tensor { index, rows: RowOrder::Same },
        keep: Keep::Source,
    })
}

fn dense_names(checkpoint: &dyn Checkpoint) -> impl Iterator<Item = (usize, &TensorInfo)> {
    checkpoint.tensors().iter().enumerate().filter(|(_, info)| is_dense(&info.name))
}

/// Returns the error for a feature that `family` does not have; `what` is a noun phrase with a verb.
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

    fn is_of(&self, config: &Config) -> bool {
        (self.takes.models)(config)
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

    fn stored_keys(
        &self,
        config: &Config,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Vec<(String, Value)>, ArchError> {
        self.table.stored_keys(&self.sizes(&self.complete(config))?, checkpoint)
    }

    fn is_stored_key(&self, name: &str) -> bool {
        self.table.is_stored_key(name)
    }

    fn stored_shapes(&self, config: &Config, names: &[&str]) -> Result<Vec<Option<Vec<u64>>>, ArchError> {
        let sizes = self.sizes(&self.complete(config))?;
        Ok(names.iter().map(|name| self.table.stored_shape(&sizes, name)).collect())
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
        let dense = dense(checkpoint).filter(|_| self.takes.dense);
        let table = self.table.map(&sizes, checkpoint)?;
        let mut tensors: Vec<MappedTensor> = dense.chain(computed).chain(table).collect();
        let mut warnings = self.takes.biases_that_differ(config, checkpoint)?;
        if !self.takes.dense && dense_names(checkpoint).next().is_some() {
            warnings.push(format!(
                "dense layers follow the pooling (modules.json), which llama.cpp's {} does not have: they are left out, and embeddings \
                 are those before them",
                self.name
            ));
        }
        warnings.extend(heads::settle(config, self.name, &self.takes, checkpoint, &mut tensors)?);
        Ok(Mapped { tensors, warnings, limits: self.takes.limits(config, &sizes)? })
    }
}

impl Family {
    /// Returns the configuration with the family's default base of the rotary frequencies, which is transformers', if it
    /// has none.
    fn complete(&self, config: &Config) -> Config {
        match self.takes.theta {
            Some(theta) => config.or(serde_json::json!({ "rope_theta": theta })),
            None => config.clone(),
        }
    }

    /// Returns the dimensions of a model that the family can express.
    fn sizes(&self, config: &Config) -> Result<Sizes, ArchError> {
        let sizes = (self.sizes)(config)?;
        self.takes.check(config, self.name, &sizes, self.graph.yarn_truncated)?;
        Ok(sizes)
    }
}
