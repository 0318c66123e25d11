//! From a path to a checkpoint: which format it is and what belongs to it.

use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::{Gguf, Metadata};
use kquant_formats::safetensors::SafeTensors;
use kquant_formats::whole;

use super::gguf::{GgufCheckpoint, type_layout};
use super::safetensors::SafeTensorsCheckpoint;
use super::{Checkpoint, Io, Quantization, ReadError};

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
        refuse_gguf_folder(path)?;
        return open_safetensors(path, path, io);
    }
    let magic = whole::start(path, 4).map_err(fault)?;
    if magic == b"GGUF" || magic == b"FUGG" {
        let gguf = Gguf::open_by(path, type_layout, io)?;
        let files = gguf.files().map(|f| f.path().to_owned()).collect();
        let origin = Origin::Gguf { metadata: gguf.metadata().clone() };
        return Ok(Opened {
            checkpoint: Box::new(GgufCheckpoint::new(gguf)),
            origin,
            quantization: None,
            files,
        });
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
        return Err(OpenError::NotAModel {
            path: path.to_owned(),
            what: "does not begin with `GGUF`. The file is damaged or something else; download it again"
                .into(),
        });
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    open_safetensors(path, folder, io)
}

/// A folder that holds GGUF files and no checkpoint is a common slip: say which files could be meant.
fn refuse_gguf_folder(folder: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: folder.to_owned(), source };
    let mut ggufs = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") {
            return Ok(());
        }
        if name.ends_with(".gguf") {
            ggufs.push(name);
        }
    }
    if ggufs.is_empty() {
        return Ok(());
    }
    ggufs.sort();
    ggufs.truncate(5);
    Err(OpenError::NotAModel {
        path: folder.to_owned(),
        what: format!("the folder holds GGUF files and no safetensors; name the file: {}", ggufs.join(", ")),
    })
}

fn open_safetensors(path: &Path, folder: &Path, io: Io) -> Result<Opened, OpenError> {
    let file = SafeTensors::open_by(path, io)?;
    let files = file.files().iter().map(|f| f.path().to_owned()).collect();
    let quantization = Quantization::read(folder);
    let checkpoint = SafeTensorsCheckpoint::new(file, quantization.as_ref())
        .map_err(|source| OpenError::Tensor { path: path.to_owned(), source })?;
    let origin = Origin::HuggingFace { folder: folder.to_owned() };
    Ok(Opened { checkpoint: Box::new(checkpoint), origin, quantization, files })
}
