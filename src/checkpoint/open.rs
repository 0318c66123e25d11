//! Opening of a path as a checkpoint, whose format and further files are found.

use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::{Gguf, Metadata};
use kquant_formats::safetensors::SafeTensors;
use kquant_formats::whole;

use super::dense::WithDense;
use super::gguf::{GgufCheckpoint, type_layout};
use super::quantized::left_over;
use super::safetensors::SafeTensorsCheckpoint;
use super::{Checkpoint, Quantization, ReadError, absent, dense, foreign};

/// The format of the input, with the source of its metadata.
#[derive(Debug)]
pub enum Origin {
    /// The input is a Hugging Face checkpoint, whose folder holds the configuration and the tokenizer.
    HuggingFace {
        /// Path of the folder.
        folder: PathBuf,
    },
    /// The input is a GGUF, which holds its metadata.
    Gguf {
        /// Metadata of the first file.
        metadata: Metadata,
    },
}

/// An opened input.
pub struct Opened {
    /// The tensors of the input.
    pub checkpoint: Box<dyn Checkpoint>,
    /// The format of the input, with the source of its metadata.
    pub origin: Origin,
    /// The quantization of its weights, if a checkpoint's configuration declares one.
    pub quantization: Option<Quantization>,
    /// Paths of the files that hold the tensors, in the order of `TensorInfo::shard`.
    pub files: Vec<PathBuf>,
    /// Notes that report no fault, such as a choice between several readings of the input.
    pub notes: Vec<String>,
    /// The reason why the tensors are not a model that can be converted, with what to do; they can still be listed.
    pub refusal: Option<String>,
}

/// The reason why an input could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path cannot be read.
    #[error("{path}: cannot open")]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The path holds nothing that kquant reads.
    #[error("{path}: {what}")]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// A sentence on what is there, and what to give instead.
        what: String,
    },
    /// The file is malformed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A tensor does not fit its scales.
    #[error("{path}")]
    Tensor {
        /// Path of the checkpoint.
        path: PathBuf,
        /// What is wrong with the tensor.
        source: ReadError,
    },
}

/// Opens a Hugging Face folder, a safetensors file (its folder holds the rest) or a GGUF (any file of a split one).
///
/// # Errors
/// Fails with an [`OpenError`] that names the file and what to do.
pub fn open(path: &Path) -> Result<Opened, OpenError> {
    let fault = |source| OpenError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(fault)?.is_dir() {
        absent::check_folder(path)?;
        return open_safetensors(path, path);
    }
    let magic = whole::start(path, 8).map_err(fault)?;
    if [b"GGUF", b"FUGG"].iter().any(|start| magic.starts_with(*start)) {
        let gguf = Gguf::open(path, type_layout)?;
        let files = gguf.files().map(|f| f.path().to_owned()).collect();
        let origin = Origin::Gguf { metadata: gguf.metadata().clone() };
        return Ok(Opened {
            checkpoint: Box::new(GgufCheckpoint::new(gguf)),
            origin,
            quantization: None,
            files,
            notes: Vec::new(),
            refusal: None,
        });
    }
    absent::check_file(path, &magic)?;
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    open_safetensors(path, folder)
}

fn open_safetensors(path: &Path, folder: &Path) -> Result<Opened, OpenError> {
    let file = SafeTensors::open(path)?;
    let files: Vec<PathBuf> = file.files().iter().map(|f| f.path().to_owned()).collect();
    let mut notes = file.notes().to_vec();
    notes.extend(foreign::note(folder, &files));
    let mut refusal = foreign::refusal(folder, &file);
    let quantization = Quantization::read(folder).unwrap_or_else(|what| {
        refusal.get_or_insert(what);
        None
    });
    let (quantization, left_over) = left_over(quantization, folder, &file);
    notes.extend(left_over);
    let checkpoint = SafeTensorsCheckpoint::new(file, quantization.as_ref())
        .map_err(|source| OpenError::Tensor { path: path.to_owned(), source })?;
    let (layers, what) = dense::layers(folder)?;
    refusal = refusal.or(what);
    let files = layers.iter().map(|layer| layer.path.clone()).chain(files).collect();
    let checkpoint: Box<dyn Checkpoint> = match layers.is_empty() {
        true => Box::new(checkpoint),
        false => Box::new(WithDense::new(layers, checkpoint)),
    };
    let origin = Origin::HuggingFace { folder: folder.to_owned() };
    Ok(Opened { checkpoint, origin, quantization, files, notes, refusal })
}
