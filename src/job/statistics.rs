//! What is known of a model's inputs when it is encoded: nothing, a file, or what a text shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kquant_formats::FormatError;
use kquant_formats::imatrix::Imatrix;
use tempfile::TempDir;

use super::manifest;
use super::method::{Known, Method};
use super::own_text::{CalibrationText, TextSource};
use super::text::{Cut, TextError};
use crate::context::{Context, Unit};
use crate::encode::LayerMethod;
use crate::hash::SourceFile;
use crate::layerwise::{Calibration, CalibrationSource, FisherSource};
use crate::model::{Model, ModelError, Products};
use crate::statistics::{
    self, Fishers, GatherError, HessianFile, Importance, Text, Wanted, gather, name_output,
};
use crate::text::{Chunks, FileText, Part, TextOrigin};

/// Where statistics come from.
#[derive(Debug, Clone, PartialEq)]
pub enum StatisticsSource {
    /// From nowhere.
    Nothing,
    /// From an importance matrix or a statistics file.
    File(PathBuf),
    /// From a text that the model is run over.
    Text(TextSource),
}

/// What is known of the inputs.
pub enum Statistics {
    /// Nothing: all columns matter alike.
    None,
    /// An importance matrix, GGUF or legacy.
    File(PathBuf),
    /// The importance that a text showed when the model was run over it.
    Collected {
        /// What identifies the text.
        text: TextOrigin,
        /// What it gave.
        matrix: Imatrix,
    },
    /// Hessians: the layers are encoded with feedback.
    Calibration(Box<Calibration>),
}

/// How statistics are made.
pub struct StatisticsRequest<'a> {
    /// Where they come from.
    pub source: &'a StatisticsSource,
    /// How weights are rounded, which decides what has to be known.
    pub method: &'a Method,
    /// Opens the model as it is to be run.
    pub open: &'a (dyn Fn() -> Result<Model, ModelError> + Sync),
    /// How much of the text is used.
    pub cut: Cut,
    /// What the labels of backward passes and the model's own text are drawn by.
    pub seed: u64,
    /// Whether products are computed in bf16 where weights are rounded with feedback, which is about twice as fast.
    pub fast_products: bool,
    /// Whether everything that prices need is collected beforehand, by one pass forward and back.
    pub for_prices: bool,
}

/// Statistics, and the file that prices can be made of.
pub struct PreparedStatistics {
    /// What encoding needs.
    pub statistics: Statistics,
    /// What pricing needs, where there is a statistics file.
    pub priced_by: Option<PricedBy>,
}

/// The model and what is known of it, to be priced.
pub struct PricedBy {
    /// The original.
    pub model: Model,
    /// Its statistics.
    pub file: HessianFile,
}

/// Why there are no statistics.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// The model cannot be opened or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The text cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The statistics file cannot be made.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// An importance matrix where Hessians are needed.
    #[error("--encoder {encoder} needs Hessians, of `kquant calibrate --hessian`")]
    NoHessians {
        /// Name of the encoder.
        encoder: &'static str,
        /// What the file is.
        source: FormatError,
    },
    /// A statistics file without gradients.
    #[error(
        "{0}: has no Fisher matrices, which feedback over both sides needs; make it with `kquant calibrate --fisher`, or give --calibrate TEXT"
    )]
    NoFishers(PathBuf),
    /// No folder for temporary files.
    #[error("cannot make a temporary folder for statistics; set TMPDIR to one with room")]
    Folder(#[source] std::io::Error),
}

impl StatisticsSource {
    /// What the source can tell of the inputs.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn known(&self) -> Result<Known, FormatError> {
        Ok(match self {
            Self::Nothing => Known::Nothing,
            Self::Text(_) => Known::Text,
            // What cannot be read is reported when it is opened.
            Self::File(path) if path.is_file() && kquant_formats::hessian::HessianFile::is_at(path)? => {
                Known::Hessians
            }
            Self::File(_) => Known::Importance,
        })
    }
}

impl Statistics {
    /// The file that the importance comes from.
    pub(super) fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::None => None,
            Self::File(path) => Some(path),
            Self::Collected { text, .. } => text.file.as_ref().map(|file| &file.path),
            Self::Calibration(calibration) => calibration.path(),
        }
    }

    /// The name of what the importance comes from, as importance matrices record it.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::File(path) => Some(path.to_string_lossy().into_owned()),
            Self::Collected { text, .. } => Some(text.path_name()),
            Self::Calibration(calibration) => Some(calibration.name()),
        }
    }

    /// The text file that it comes from, by what was read.
    pub(super) fn text(&self) -> Option<SourceFile> {
        let origin = match self {
            Self::Collected { text, .. } => text,
            Self::Calibration(calibration) => match &calibration.source {
                CalibrationSource::Text { origin, .. } => origin,
                CalibrationSource::Statistics { .. } => return None,
            },
            Self::None | Self::File(_) => return None,
        };
        let FileText { path, sha256, bytes } = origin.file.as_ref()?;
        Some(SourceFile { name: manifest::file_name(path), bytes: *bytes, sha256: sha256.clone() })
    }

    /// The calibration to run, if there is one.
    pub fn calibration(&self) -> Option<&Calibration> {
        match self {
            Self::Calibration(calibration) => Some(calibration),
            _ => None,
        }
    }
}

/// Opens or collects what `request` asks for. A text is run through the model now where importance or prices are wanted of it, and otherwise while the
/// layers are encoded.
///
/// # Errors
/// [`StatisticsError`].
pub fn statistics(
    request: &StatisticsRequest,
    context: &Context,
) -> Result<PreparedStatistics, StatisticsError> {
    match request.source {
        StatisticsSource::Nothing => Ok(PreparedStatistics { statistics: Statistics::None, priced_by: None }),
        StatisticsSource::File(path) => of_file(request, path),
        StatisticsSource::Text(text) => of_text(request, text, context),
    }
}

impl StatisticsRequest<'_> {
    /// Opens the model, which must predict tokens where gradients of predictions are wanted, or the output projection's inputs.
    fn opened(&self) -> Result<Model, StatisticsError> {
        let model = (self.open)()?;
        if self.for_prices || self.method.needs_fishers() || self.method.with_output {
            model.check_predicts()?;
        }
        Ok(model)
    }
}

fn of_file(request: &StatisticsRequest, path: &Path) -> Result<PreparedStatistics, StatisticsError> {
    let method = request.method;
    let file = match request.source.known()? {
        Known::Hessians => Some(HessianFile::open(path)?),
        _ => None,
    };
    let priced_by = match (&file, request.for_prices) {
        (Some(_), true) => Some(PricedBy { model: request.opened()?, file: HessianFile::open(path)? }),
        _ => None,
    };
    let Some(layers) = method.layers.clone() else {
        return Ok(PreparedStatistics { statistics: Statistics::File(path.to_owned()), priced_by });
    };
    let file = match file {
        Some(file) => file,
        None => HessianFile::open(path)
            .map_err(|source| StatisticsError::NoHessians { encoder: method.encoder.name(), source })?,
    };
    if method.needs_fishers() && file.description().fishers.is_none() {
        return Err(StatisticsError::NoFishers(path.to_owned()));
    }
    let source = CalibrationSource::Statistics { path: path.to_owned(), file };
    let fishers = method.needs_fishers().then_some(FisherSource::Statistics);
    let calibration = calibration(request.opened()?, source, (layers, method), fishers);
    Ok(PreparedStatistics { statistics: calibration, priced_by })
}

/// Calibrated encoding of layers by `source`, as `method` says.
fn calibration(
    model: Model,
    source: CalibrationSource,
    (layers, method): (Arc<dyn LayerMethod>, &Method),
    fishers: Option<FisherSource>,
) -> Statistics {
    Statistics::Calibration(Box::new(Calibration {
        model,
        source,
        layers,
        both_sides: fishers,
        with_output: method.with_output,
    }))
}

fn of_text(
    request: &StatisticsRequest,
    text: &TextSource,
    context: &Context,
) -> Result<PreparedStatistics, StatisticsError> {
    let (mut model, method) = (request.opened()?, request.method);
    let text = text.read(&model, request.cut, request.seed, context)?;
    if method.layers.is_some() && request.fast_products {
        model.compute_in(Products::Bf16);
    }
    let gathered = match request.for_prices {
        true => Some(gather_beside(&model, &text, request.seed, context)?),
        false => None,
    };
    let CalibrationText { origin, chunks } = text;
    if let Some(layers) = method.layers.clone() {
        let (known, priced) = gathered.map_or((None, None), |[known, priced]| (Some(known), Some(priced)));
        let priced_by =
            priced.map(|file| Ok::<_, StatisticsError>(PricedBy { model: request.opened()?, file }));
        let source = CalibrationSource::Text { origin, chunks };
        let fishers = known
            .map_or(FisherSource::Pass { seed: request.seed }, |file| FisherSource::File(Box::new(file)));
        let statistics =
            calibration(model, source, (layers, method), method.needs_fishers().then_some(fishers));
        return Ok(PreparedStatistics { statistics, priced_by: priced_by.transpose()? });
    }
    let (matrix, priced_by) = match gathered {
        Some([file, _]) => (file.importance().clone(), Some(PricedBy { model, file })),
        None => (importance(&model, &chunks, &origin.path_name(), method.with_output, context)?, None),
    };
    Ok(PreparedStatistics { statistics: Statistics::Collected { text: origin, matrix }, priced_by })
}

/// Collects everything about `chunks` in a statistics file without a name, opened twice.
fn gather_beside(
    model: &Model,
    text: &CalibrationText,
    seed: u64,
    context: &Context,
) -> Result<[HessianFile; 2], StatisticsError> {
    let folder = TempDir::with_prefix("kquant-").map_err(StatisticsError::Folder)?;
    let path = folder.path().join("statistics.gguf");
    context.progress.begin(Fishers::work(model, &text.chunks), Unit::Work);
    let name = text.origin.path_name();
    let whole = Text { name: &name, sha256: &text.origin.sha256, chunks: &text.chunks, part: Part::WHOLE };
    let wanted = Wanted { output_tensor: true, fisher: Some(seed) };
    gather(model, &whole, (&path, false), wanted, context)?;
    // The open files outlive their name, so that nothing is left however the run ends.
    Ok([HessianFile::open(&path)?, HessianFile::open(&path)?])
}

/// The importance matrix of `model` on `chunks` of the text `name`.
///
/// # Errors
/// When the model cannot be run, or the run is cancelled.
pub fn importance(
    model: &Model,
    chunks: &Chunks,
    name: &str,
    with_output: bool,
    context: &Context,
) -> Result<Imatrix, ModelError> {
    context.progress.begin(statistics::work(model, chunks), Unit::Work);
    let mut importance = Importance::new(chunks.context(), with_output);
    statistics::collect(model, chunks, &mut importance, with_output, context)?;
    let mut matrix = importance.into_imatrix(name, chunks.context() as u32)?;
    name_output(&mut matrix, model);
    Ok(matrix)
}
