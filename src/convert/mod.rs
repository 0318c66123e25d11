//! A model of any format as data: tensors under GGUF names and metadata as GGUF keys.
//!
//! Everything else looks at a [`Converted`] model: forward pass, statistics, plan and writer.

use std::path::Path;

use kquant_formats::gguf::Metadata;

use crate::arch::{self, ArchError, Limit};
use crate::checkpoint::{Opened, Origin};
use crate::tensor::{Keep, MappedTensor, Rows, Source};
use crate::vocab::{self, VocabError};

/// What a model brings along before a recipe is applied.
#[derive(Debug)]
pub struct Converted {
    /// Metadata in the converter's order: `general.*`, hyper-parameters, vocabulary.
    pub metadata: Metadata,
    /// Output tensors without types.
    pub tensors: Vec<MappedTensor>,
    /// What could not be used, or cannot be said in the metadata, and is not needed.
    pub warnings: Vec<String>,
    /// What is no fault, but good to know.
    pub notes: Vec<String>,
    /// Lengths from which on a GGUF of the model computes something else; they are among the warnings, too.
    pub limits: Vec<Limit>,
}

/// Why a model cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// Its configuration or tensors.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// Its tokenizer.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// Its weights.
    #[error("{0}")]
    Quantized(String),
    /// What the tensors are instead of a model.
    #[error("{0}")]
    NoModel(String),
    /// The user's metadata for an input that has its own.
    #[error("--metadata is for checkpoints; a GGUF keeps its metadata, of which --override-kv changes keys")]
    OwnMetadata,
}

/// Names, shapes and metadata of the output. Reads no tensor data but for an output that may be a copy of the embedding. `pre` overrides the pre-tokenizer's name, `given` is a file
/// of `general.*` keys that the user sets.
///
/// # Errors
/// [`ConvertError`] when the architecture, a tensor's shape or the tokenizer is not understood.
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
    // A card is good to have, and written by hand.
    let card = arch::Card::open(folder);
    let warnings = card.as_ref().err().map(|e| format!("{e}; the model card's keys are left out"));
    let name = arch::folder_name(folder);
    let around = arch::Surroundings {
        folder: &name,
        generation: generation.as_ref(),
        card: card.as_ref().ok(),
        overrides: given.as_ref(),
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

/// What to say of the configuration's keys that nothing of the conversion has asked for.
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

/// `generation_config.json` of `folder`, without what cannot be used, and what that is: its recommendations are good to have.
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

/// A GGUF's tensors, each from itself.
fn same_tensors(opened: &Opened) -> Vec<MappedTensor> {
    let tensors = opened.checkpoint.tensors().iter().enumerate();
    tensors
        .map(|(index, t)| MappedTensor {
            name: t.name.clone(),
            shape: t.shape.iter().rev().copied().collect(),
            source: Source::Tensor { index, rows: Rows::Same },
            keep: Keep::Source,
        })
        .collect()
}
