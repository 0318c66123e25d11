//! Conversion of a model of any format to tensors under GGUF names and metadata under GGUF keys.
//!
//! The forward pass, the statistics, the plan and the writer all look at a [`Converted`] model.

use std::path::Path;

use kquant_formats::gguf::Metadata;

use crate::arch::{self, ArchError, Limit};
use crate::checkpoint::{Opened, Origin};
use crate::graph::{Graph, Hyper, KeyError, architecture};
use crate::tensor::{Keep, MappedTensor, RowOrder, Source};
use crate::vocab::{self, VocabError};

/// A model in terms of GGUF, before a recipe is applied.
#[derive(Debug, Clone)]
pub struct Converted {
    /// Metadata in the converter's order: `general.*`, hyper-parameters, vocabulary.
    pub metadata: Metadata,
    /// Output tensors, whose types are not chosen yet.
    pub tensors: Vec<MappedTensor>,
    /// Warnings about parts of the model that could not be used or that the metadata cannot express; none of them is needed.
    pub warnings: Vec<String>,
    /// Remarks for the user that are no faults.
    pub notes: Vec<String>,
    /// Lengths of text from which on a GGUF of the model computes something else; the warnings contain them, too.
    pub limits: Vec<Limit>,
}

impl Converted {
    /// Returns the hyper-parameters of the model, whose graph is `graph`: those of the keys, and the windows that keys cannot express.
    ///
    /// # Errors
    /// Fails when a key is missing, has a wrong type or a value that no model can have.
    pub fn hyper(&self, graph: &Graph) -> Result<Hyper, KeyError> {
        hyper(&self.metadata, &self.limits, graph)
    }

    /// Returns the name of the architecture if its keys say that layers are recurrent.
    pub(crate) fn recurrent(&self) -> Option<&str> {
        let family = architecture(&self.metadata).ok()?;
        let has = |key: &&str| self.metadata.get(&format!("{family}.{key}")).is_some();
        ["ssm.conv_kernel", "shortconv.l_cache"].iter().any(has).then_some(family)
    }
}

/// Returns the hyper-parameters of a model of the keys `metadata` whose context has these `limits`.
///
/// # Errors
/// Fails as [`Converted::hyper`] does.
pub fn hyper(metadata: &Metadata, limits: &[Limit], graph: &Graph) -> Result<Hyper, KeyError> {
    let mut hyper = Hyper::from_metadata(metadata, graph)?;
    if let Some((limit, windows)) = limits.iter().find_map(|limit| Some((limit, limit.windows?))) {
        (hyper.window, hyper.windows) = (Some(limit.tokens as usize), windows);
    }
    Ok(hyper)
}

/// The reason why a model cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The configuration or the tensors are not understood.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// The tokenizer is not understood.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// The weights are quantized in a way that is not understood.
    #[error("{0}")]
    Quantized(String),
    /// The tensors are no model but something else, which the text names.
    #[error("{0}")]
    NoModel(String),
    /// The user gave metadata for an input that has metadata of its own.
    #[error("--metadata is for checkpoints; a GGUF keeps its metadata, of which --override-kv changes keys")]
    OwnMetadata,
}

/// Determines names, shapes and metadata of the output. No tensor data are read, except for an output projection that may be
/// a copy of the embedding. `pre` overrides the name of the pre-tokenizer; `given` is a file of `general.*` keys that the
/// user sets.
///
/// # Errors
/// Fails when the architecture, a tensor's shape or the tokenizer is not understood.
pub fn convert(opened: &Opened, pre: Option<&str>, given: Option<&Path>) -> Result<Converted, ConvertError> {
    let folder = match &opened.origin {
        Origin::HuggingFace { folder } => folder,
        Origin::Gguf { metadata } => {
            if given.is_some() {
                return Err(ConvertError::OwnMetadata);
            }
            let (metadata, tensors) = (metadata.clone(), same_tensors(opened));
            return Ok(Converted {
                metadata,
                tensors,
                warnings: Vec::new(),
                notes: Vec::new(),
                limits: Vec::new(),
            });
        }
    };
    if let Some(what) = opened.refusal.clone() {
        return Err(ConvertError::NoModel(what));
    }
    if let Some(what) = opened.quantization.as_ref().and_then(|q| q.refusal.clone()) {
        return Err(ConvertError::Quantized(what));
    }
    let config = arch::Config::open(&folder.join("config.json")).map_err(ArchError::from)?;
    let family = arch::find(&config)?;
    let arch::Mapped { tensors, warnings: found, limits } =
        family.map(&config, opened.checkpoint.as_ref())?;
    let (generation, notes) = generation(folder);
    let given = given.map(arch::Config::open).transpose().map_err(ArchError::from)?;
    // A model card is optional and written by hand, so that its faults are only warnings.
    let card = arch::Card::open(folder);
    let warnings = card.as_ref().err().map(|e| format!("{e}; the model card's keys are left out"));
    let name = arch::folder_name(folder);
    let stored = family.stored_keys(&config, opened.checkpoint.as_ref())?;
    let around = arch::Surroundings {
        folder: &name,
        generation: generation.as_ref(),
        card: card.as_ref().ok(),
        overrides: given.as_ref(),
        stored: &stored,
        pooling: arch::pooling(folder)?,
    };
    let mut metadata = arch::metadata(family, &config, &around, &tensors)?;
    let request = vocab::Request {
        folder,
        architecture: family.gguf_name(),
        vocab_size: tensors
            .iter()
            .find(|t| t.name == "token_embd.weight")
            .and_then(|t| t.shape.get(1).copied()),
        config: &config.json(),
        pre,
    };
    let vocabulary = vocab::load(&request)?;
    for (key, value) in vocabulary.keys.iter() {
        metadata.set(key, value.clone());
    }
    let mut warnings: Vec<String> = warnings.into_iter().chain(vocabulary.warnings).chain(found).collect();
    warnings.extend(limits.iter().map(|limit| limit.what.clone()));
    warnings.extend(unknown_keys(&config));
    Ok(Converted { metadata, tensors, warnings, notes, limits })
}

/// Returns a warning about the configuration's keys that no part of the conversion has read, if there are any.
fn unknown_keys(config: &arch::Config) -> Option<String> {
    let keys = config.unread();
    let names: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{}: keys that are not known and count for nothing: {}; if they change what the model computes, the result is wrong",
            config.origin(),
            names.join(", ")
        )
    })
}

/// Returns `generation_config.json` of `folder` without the keys that cannot be used, and remarks about those. The file
/// holds only recommendations, so that its faults stop nothing.
fn generation(folder: &Path) -> (Option<arch::Config>, Vec<String>) {
    let path = folder.join("generation_config.json");
    if !path.exists() {
        return (None, Vec::new());
    }
    let left_out = |e: arch::ConfigError| format!("{e}; this recommendation for sampling is left out");
    match arch::Config::open(&path) {
        Ok(mut config) => {
            let odd = arch::remove_odd_sampling(&mut config);
            (Some(config), odd.into_iter().map(left_out).collect())
        }
        Err(e) => (None, vec![format!("{e}; its recommendations for sampling are left out")]),
    }
}

/// Maps each tensor of a GGUF to itself.
fn same_tensors(opened: &Opened) -> Vec<MappedTensor> {
    let tensors = opened.checkpoint.tensors().iter().enumerate();
    tensors
        .map(|(index, t)| MappedTensor {
            name: t.name.clone(),
            shape: t.shape.iter().rev().copied().collect(),
            source: Source::Tensor { index, rows: RowOrder::Same },
            keep: Keep::Source,
        })
        .collect()
}
