//! What a model is: its files with their hashes, its size, its types.

use std::path::Path;

use kquant_formats::gguf::Metadata;
use serde::Serialize;

use super::{Inspected, ReportError};
use crate::checkpoint::{Opened, Origin, TensorInfo};
use crate::hash::file_sha256;

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Name of the file without its folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// How much of a model has one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeShare {
    /// Name of the type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights.
    pub weights: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

/// A model as its files are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// What the model is called on the page.
    pub name: String,
    /// Path as it was given.
    pub path: String,
    /// `GGUF` or `Hugging Face checkpoint`.
    pub format: &'static str,
    /// Architecture as GGUF names it, if keys say it.
    pub architecture: Option<String>,
    /// The files that hold tensors.
    pub files: Vec<FileSummary>,
    /// Bytes of all these files.
    pub bytes: u64,
    /// Number of tensors that are stored.
    pub tensors: usize,
    /// Number of weights that are stored.
    pub weights: u64,
    /// Bytes of tensor data times 8 over weights.
    pub bits_per_weight: f64,
    /// Types, that with most weights first.
    pub types: Vec<TypeShare>,
    /// Keys that say how the model was made: those that begin with `kquant.`, and llama.cpp's of importance.
    pub made: Vec<(String, String)>,
}

impl ModelSummary {
    /// Reads and hashes the files of `model`.
    ///
    /// # Errors
    /// Fails when a file cannot be read.
    pub fn read(model: &Inspected) -> Result<Self, ReportError> {
        let opened = model.opened();
        let mut files = Vec::new();
        for path in &opened.files {
            let fault = |source| ReportError::File { path: path.clone(), source };
            let (sha256, bytes) = file_sha256(path).map_err(fault)?;
            files.push(FileSummary { name: name_of(path), bytes, sha256 });
        }
        let tensors = opened.checkpoint.tensors();
        let types = types(tensors);
        let weights = types.iter().map(|t| t.weights).sum();
        let data: u64 = types.iter().map(|t| t.bytes).sum();
        Ok(Self {
            name: model.name().to_owned(),
            path: model.path().display().to_string(),
            format: format(opened),
            architecture: model.text("general.architecture").map(str::to_owned),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
            tensors: tensors.len(),
            weights,
            bits_per_weight: data as f64 * 8.0 / weights.max(1) as f64,
            types,
            made: made(&model.converted().metadata),
        })
    }
}

/// Returns the last part of `path`.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn format(opened: &Opened) -> &'static str {
    match opened.origin {
        Origin::Gguf { .. } => "GGUF",
        Origin::HuggingFace { .. } => "Hugging Face checkpoint",
    }
}

/// Returns how much of `tensors` has each type.
fn types(tensors: &[TensorInfo]) -> Vec<TypeShare> {
    let mut all: Vec<TypeShare> = Vec::new();
    for tensor in tensors {
        let weights = tensor.shape.iter().product();
        let bytes = tensor.stored_bytes(weights).unwrap_or(0);
        match all.iter_mut().find(|share| share.kind == tensor.dtype) {
            Some(share) => {
                share.tensors += 1;
                share.weights += weights;
                share.bytes += bytes;
            }
            None => all.push(TypeShare { kind: tensor.dtype.to_owned(), tensors: 1, weights, bytes }),
        }
    }
    all.sort_by(|a, b| b.weights.cmp(&a.weights).then_with(|| a.kind.cmp(&b.kind)));
    all
}

/// Returns the keys that say how a GGUF was made.
fn made(metadata: &Metadata) -> Vec<(String, String)> {
    let says_how = |key: &str| key.starts_with("kquant.") || key.starts_with("quantize.imatrix.");
    let shown = |value: &kquant_formats::gguf::Value| {
        let number = || value.as_u64().map(|number| number.to_string());
        value.as_str().map(str::to_owned).or_else(number)
    };
    metadata
        .iter()
        .filter(|(key, _)| says_how(key))
        .filter_map(|(key, value)| Some((key.to_owned(), shown(value)?)))
        .collect()
}
