//! Why a job failed.

use std::path::PathBuf;

use kquant_formats::FormatError;

use crate::checkpoint::OpenError;
use crate::convert::ConvertError;
use crate::layerwise::CalibratedError;
use crate::outputs::OutputError;
use crate::parts::PartsError;
use crate::pipeline::PipelineError;
use crate::plan::PlanError;

/// Why a job failed. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The input cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The input is not understood.
    #[error("{path}")]
    Input {
        /// The input.
        path: PathBuf,
        /// What is wrong.
        source: ConvertError,
    },
    /// There is no plan.
    #[error("{path}")]
    Plan {
        /// The input.
        path: PathBuf,
        /// What is wrong.
        source: PlanError,
    },
    /// A file other than the model.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The run.
    #[error("{path}")]
    Run {
        /// The input.
        path: PathBuf,
        /// What is wrong.
        source: PipelineError,
    },
    /// Encoding with feedback.
    #[error("{path}")]
    Calibrated {
        /// The input.
        path: PathBuf,
        /// What is wrong.
        source: Box<CalibratedError>,
    },
    /// An output cannot be written where it is wanted.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// What is at the place of a part, or the parts of a run.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// A part of a run whose layers are encoded one after the other.
    #[error(
        "with a text at hand each layer is encoded after those before it, so that parts cannot be made by themselves; gather statistics first \
         (kquant calibrate --text TEXT --part I/N, then kquant imatrix merge) and give them with --statistics"
    )]
    PartOfSequence,
    /// A source file cannot be hashed for the manifest.
    #[error("{path}: cannot hash for the manifest")]
    Hash {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No folder for temporary files.
    #[error("cannot make a temporary folder; set TMPDIR to one with room")]
    Folder(#[source] std::io::Error),
    /// JSON could not be made.
    #[error("cannot write as JSON")]
    Json(#[from] serde_json::Error),
}
