//! A report to look at: one HTML page without scripts that says what was made of what, and what that costs.
//!
//! | file | what |
//! |---|---|
//! | `facts` | files of a model with their hashes, sizes and types |
//! | `pair` | whether two models are one model at two precisions |
//! | `types` | the type of each matrix by layer and role |
//! | `errors` | how far the weights of each tensor moved |
//! | `passages` | divergence by position in a text, and the passages that suffer most |
//! | `samples` | what both models write |
//! | `model_report` | all of these on one model and its base |
//! | `html` | the page around the sections, and the escaping of all text |
//! | `sections/` | one section of the page from each of these |
//!
//! Everything that a page shows is data first ([`ModelSummary`], [`TypeMap`], [`TensorError`], [`TextFindings`], [`SamplePair`]), which
//! programs can write as JSON. The same inputs give the same page: it holds no time of day.

mod errors;
mod facts;
mod html;
mod model_report;
mod pair;
mod passages;
mod samples;
mod sections;
mod types;

use std::path::PathBuf;

use crate::checkpoint::{OpenError, ReadError};
use crate::convert::ConvertError;
use crate::evaluate::EvaluateError;
use crate::model::ModelError;

pub use errors::{Precision, TensorError, tensor_errors};
pub use facts::{FileSummary, ModelSummary, TypeShare};
pub use html::{Page, Section};
pub use model_report::ModelReport;
pub use pair::{Inspected, only_in, related};
pub use passages::{Passage, PassageToken, PositionSpan, Prediction, TextFindings, findings};
pub use samples::{SamplePair, samples};
pub use sections::{SizePoint, chart_section, errors_section, facts_section, samples_section, size_section};
pub use sections::{table_section, text_section, types_section};
pub use types::{TypeMap, TypeRow};

/// The reason why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A model cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A model is not understood.
    #[error("{}", path.display())]
    Convert {
        /// Path of the model.
        path: PathBuf,
        /// What is not understood.
        source: ConvertError,
    },
    /// A file of a model cannot be read.
    #[error("{}: cannot be read", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A tensor cannot be read.
    #[error("{}", path.display())]
    Tensor {
        /// Path of the model.
        path: PathBuf,
        /// What is wrong with the tensor.
        source: ReadError,
    },
    /// Two models are not one model at two precisions.
    #[error(
        "{} and {} are not one model at two precisions: {what}; give the model that the second was made of. What was pruned or has other \
         tokens is compared on a text: kquant perplexity MODEL --base ORIGINAL --text FILE --html PAGE",
        base.display(), model.display()
    )]
    Unrelated {
        /// Path of the first model.
        base: PathBuf,
        /// Path of the second model.
        model: PathBuf,
        /// The first difference.
        what: String,
    },
    /// A model cannot be run.
    #[error("{}", path.display())]
    Run {
        /// Path of the model.
        path: PathBuf,
        /// The model's error.
        source: Box<ModelError>,
    },
    /// Two models cannot be compared on a text.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The user stopped the run.
    #[error("interrupted")]
    Cancelled,
}
