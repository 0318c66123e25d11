//! From a path to a checkpoint: which format it is and what belongs to it.

use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::{Gguf, Metadata};
use kquant_formats::safetensors::SafeTensors;
use kquant_formats::whole;

use super::gguf::{GgufCheckpoint, type_layout};
use super::quantized::left_over;
use super::safetensors::SafeTensorsCheckpoint;
use super::{Checkpoint, Io, Quantization, ReadError, absent, foreign};

/// What surrounds the tensors.
#[derive(Debug)]
pub enum Origin {
    /// A Hugging Face checkpoint: its folder holds the configuration and the tokenizer.
    HuggingFace {
        /// The folder.
        folder: PathBuf,
    },
    /// A GGUF: the metadata is in the file.
    Gguf {
        /// The first file's metadata.
        metadata: Metadata,
    },
}

/// An opened input.
pub struct Opened {
    /// Its tensors.
    pub checkpoint: Box<dyn Checkpoint>,
    /// Its metadata, or where that is found.
    pub origin: Origin,
    /// How its weights are quantized, where a checkpoint's configuration says that they are.
    pub quantization: Option<Quantization>,
    /// The files that hold the tensors, in the order of `TensorInfo::shard`.
    pub files: Vec<PathBuf>,
    /// What is no fault, but good to know: what was chosen where something else could be meant.
    pub notes: Vec<String>,
    /// Why the tensors are no model that can be converted, and what to do; they can still be looked at.
    pub refusal: Option<String>,
}

/// Why an input could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path cannot be read.
    #[error("{path}: cannot open")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The path holds nothing kquant reads.
    #[error("{path}: {what}")]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// What is there, and what to give instead.
        what: String,
    },
    /// The file is malformed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A tensor does not fit its scales.
    #[error("{path}")]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        source: ReadError,
    },
}

/// Opens a Hugging Face folder, a safetensors file (its folder holds the rest) or a GGUF (any file of a split one).
///
/// # Errors
/// [`OpenError`], naming the file and what to do.
pub fn open(path: &Path) -> Result<Opened, OpenError> {
    open_by(path, Io::Auto)
}

/// [`open`], with tensor data read as `io` says.
///
/// # Errors
/// As [`open`].
pub fn open_by(path: &Path, io: Io) -> Result<Opened, OpenError> {
    let fault = |source| OpenError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(fault)?.is_dir() {
        absent::check_folder(path)?;
        return open_safetensors(path, path, io);
    }
    let magic = whole::start(path, 8).map_err(fault)?;
    if [b"GGUF", b"FUGG"].iter().any(|start| magic.starts_with(*start)) {
        let gguf = Gguf::open_by(path, type_layout, io)?;
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
    open_safetensors(path, folder, io)
}

fn open_safetensors(path: &Path, folder: &Path, io: Io) -> Result<Opened, OpenError> {
    let file = SafeTensors::open_by(path, io)?;
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
    let origin = Origin::HuggingFace { folder: folder.to_owned() };
    Ok(Opened { checkpoint: Box::new(checkpoint), origin, quantization, files, notes, refusal })
}
