//! The library in a few lines: what most programs that embed kquant need of it. The rooms below have everything else.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use kquant_formats::FormatError;
use kquant_formats::imatrix::Imatrix;

use crate::context::{Context, Progress, Silent, Unit};
use crate::evaluate::{self, EvaluateError, Reference};
use crate::job::{
    Cut, Job, MethodError, MethodOptions, Outputs, PriceRequest, PricesError, QuantizeError, Report,
    Resources, StatisticsError, StatisticsRequest, StatisticsSource, TextError, TextFile, TextSource, Types,
    importance, prepare, prices, statistics,
};
use crate::model::{Model, ModelError};
use crate::recipe::{self, Allocation, Menu, Options, Overrides, RecipeError, Target};
use crate::threads;

pub use crate::job::Quality;

/// Why a call failed; the text says which file or tensor, what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Types that cannot be.
    #[error(transparent)]
    Recipe(Box<RecipeError>),
    /// Options that contradict each other.
    #[error(transparent)]
    Method(Box<MethodError>),
    /// Statistics that cannot be made or read.
    #[error(transparent)]
    Statistics(Box<StatisticsError>),
    /// Prices that cannot be measured or read.
    #[error(transparent)]
    Prices(Box<PricesError>),
    /// The run itself.
    #[error(transparent)]
    Quantize(Box<QuantizeError>),
    /// A text that cannot be used.
    #[error(transparent)]
    Text(Box<TextError>),
    /// A model that cannot be opened or run.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// A model that cannot be scored.
    #[error(transparent)]
    Evaluate(Box<EvaluateError>),
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(Box<FormatError>),
    /// Threads that the system does not give.
    #[error("cannot start {threads} threads")]
    Threads {
        /// How many, 0 for one per core.
        threads: usize,
        /// What the system says.
        source: threads::PoolError,
    },
}

/// Boxes an error of a room, so that results stay small.
macro_rules! boxed {
    ($($variant:ident($error:ty)),* $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed! {
    Recipe(RecipeError),
    Method(MethodError),
    Statistics(StatisticsError),
    Prices(PricesError),
    Quantize(QuantizeError),
    Text(TextError),
    Model(ModelError),
    Evaluate(EvaluateError),
    File(FormatError),
}

/// What runs may use. Nothing of it changes a result.
pub struct Settings {
    /// Bytes for weights, statistics, hidden states and buffers.
    pub memory: u64,
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// Told how far a run has come.
    pub progress: Box<dyn Progress + Send>,
    /// Stops the run when set from another thread; nothing is left behind then.
    pub cancel: &'static AtomicBool,
}

/// Never set.
static NEVER: AtomicBool = AtomicBool::new(false);

impl Default for Settings {
    /// 4 GiB, a thread per core, without progress.
    fn default() -> Self {
        Self { memory: 4 << 30, threads: 0, progress: Box::new(Silent), cancel: &NEVER }
    }
}

impl Settings {
    fn context(&self) -> Context<'_> {
        Context { memory: self.memory, cancel: self.cancel, progress: self.progress.as_ref() }
    }

    /// Runs `f` on the threads.
    fn on_threads<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let pool =
            threads::pool(self.threads).map_err(|source| Error::Threads { threads: self.threads, source })?;
        Ok(pool.install(f))
    }
}

/// Makes one GGUF of a model.
///
/// ```no_run
/// # fn main() -> Result<(), kquant::Error> {
/// let report = kquant::Quantizer::new("Llama-3.2-1B") // a folder, a safetensors file or a GGUF
///     .size(700 << 20)? // or .file_type("Q4_K_M")?
///     .calibrate("calibration.txt", kquant::Quality::Best)
///     .write("llama-1b.gguf".as_ref(), &kquant::Settings::default())?;
/// println!("{} {:.3} bits per weight", report.files[0].sha256, report.bits_per_weight);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Quantizer {
    model: PathBuf,
    wanted: TypesWanted,
    overrides: Overrides,
    source: StatisticsSource,
    method: MethodOptions,
    cut: Cut,
    force: bool,
}

/// How the types are to be chosen.
#[derive(Debug, Clone)]
enum TypesWanted {
    FileType(&'static recipe::FileType),
    Target(Target, Menu),
}

impl Quantizer {
    /// Quantizes `model`, by default to llama-quantize's `Q4_K_M`, without calibration.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        // The table's names are tested to be found.
        let q4_k_m = recipe::FILE_TYPES.iter().find(|t| t.name == "Q4_K_M");
        Self {
            model: model.into(),
            wanted: TypesWanted::FileType(q4_k_m.unwrap_or(&recipe::FILE_TYPES[0])),
            overrides: Overrides::default(),
            source: StatisticsSource::Nothing,
            method: MethodOptions::default(),
            cut: Cut::default(),
            force: false,
        }
    }

    /// Chooses types as llama-quantize does for the file type `name`.
    ///
    /// # Errors
    /// [`RecipeError`] when there is no such file type.
    pub fn file_type(self, name: &str) -> Result<Self, Error> {
        Ok(Self { wanted: TypesWanted::FileType(recipe::file_type(name)?), ..self })
    }

    /// Chooses types by what each tensor costs, for a file of at most `bytes` bytes; needs a text or statistics.
    ///
    /// # Errors
    /// As [`target`](Self::target).
    pub fn size(self, bytes: u64) -> Result<Self, Error> {
        self.target(Target::Size(bytes), "all")
    }

    /// Chooses types of the menu `menu` by what each tensor costs, for `target`; needs a text or statistics.
    ///
    /// # Errors
    /// [`RecipeError`] when the menu is neither known nor a list of types.
    pub fn target(self, target: Target, menu: &str) -> Result<Self, Error> {
        Ok(Self { wanted: TypesWanted::Target(target, Menu::parse(menu)?), ..self })
    }

    /// Fixes types of tensors by hand; they hold however the others are chosen.
    pub fn overrides(self, overrides: Overrides) -> Self {
        Self { overrides, ..self }
    }

    /// Runs the text at `text` through the model and rounds so that what it computes changes least.
    pub fn calibrate(self, text: impl Into<PathBuf>, quality: Quality) -> Self {
        self.calibrate_on(TextSource::file(text), quality)
    }

    /// Calibrates on a text that the model writes itself, in whole or in part.
    pub fn calibrate_on(self, text: TextSource, quality: Quality) -> Self {
        let method = MethodOptions { quality: Some(quality), ..self.method };
        Self { source: StatisticsSource::Text(text), method, ..self }
    }

    /// Takes an importance matrix or a statistics file instead of a text.
    pub fn statistics(self, file: impl Into<PathBuf>) -> Self {
        Self { source: StatisticsSource::File(file.into()), ..self }
    }

    /// Says how weights are rounded in more detail than a level of quality.
    pub fn method(self, method: MethodOptions) -> Self {
        Self { method, ..self }
    }

    /// Uses less of the text, or other chunks.
    pub fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    /// Replaces an existing output.
    pub fn replace(self) -> Self {
        Self { force: true, ..self }
    }

    /// Writes the file `out`.
    ///
    /// # Errors
    /// [`Error`]; nothing is left behind then.
    pub fn write(self, out: &Path, settings: &Settings) -> Result<Report, Error> {
        let method = self.method.choose(self.source.known()?)?;
        let for_prices = matches!(self.wanted, TypesWanted::Target(..));
        let open = || Model::open(&self.model, None);
        let request = StatisticsRequest {
            source: &self.source,
            method: &method,
            open: &open,
            cut: self.cut,
            seed: 0,
            fast_products: true,
            for_prices,
        };
        let made = settings.on_threads(|| statistics(&request, &settings.context()))??;
        let types = match &self.wanted {
            TypesWanted::FileType(file_type) => {
                Types::FileType(Options { overrides: self.overrides.clone(), ..Options::new(file_type) })
            }
            TypesWanted::Target(target, menu) => {
                let types = Allocation::priced_types(menu, &self.overrides);
                let request = PriceRequest { method: &method, types: &types };
                let prices =
                    settings.on_threads(|| prices(&request, &made, &open, &settings.context()))??;
                let repaired = method.layers.is_some() && matches!(self.source, StatisticsSource::Text(_));
                let (target, menu, overrides) = (*target, menu.clone(), self.overrides.clone());
                Types::Prices(Box::new(Allocation { target, menu, prices, overrides, repaired }))
            }
        };
        let prepared = prepare(Job {
            model: self.model,
            types,
            statistics: made.statistics,
            encoder: method.encoder,
            metadata: None,
            overrides: Vec::new(),
            keep_split: false,
            pre: None,
        })?;
        let outputs = Outputs { model: out.to_owned(), manifest: None, report: None, force: self.force };
        prepared.check_outputs(&outputs)?;
        let Context { memory, cancel, progress } = settings.context();
        let calibrated = settings.on_threads(|| prepared.calibrate(memory, cancel, progress, None))??;
        let resources = Resources { memory, threads: settings.threads };
        Ok(prepared.run(calibrated.as_ref(), &outputs, &resources, cancel, progress)?)
    }
}

/// Collects the importance matrix of `model` on the text at `text`.
///
/// ```no_run
/// # fn main() -> Result<(), kquant::Error> {
/// let matrix = kquant::calibrate("Llama-3.2-1B".as_ref(), "calibration.txt".as_ref(), &kquant::Settings::default())?;
/// matrix.write_gguf("imatrix.gguf".as_ref(), false)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error`] when the model cannot be run or the text cannot be used.
pub fn calibrate(model: &Path, text: &Path, settings: &Settings) -> Result<Imatrix, Error> {
    let (model, text) = (Model::open(model, None)?, TextFile::read(text)?);
    let chunks = text.chunks(&model, Cut::default())?;
    Ok(settings.on_threads(|| {
        importance(&model, &chunks, &text.path.to_string_lossy(), false, &settings.context())
    })??)
}

/// Scores `model` on the text at `text`: its perplexity, and its KL divergence from `base` where there is one, which may have more tokens.
///
/// ```no_run
/// # fn main() -> Result<(), kquant::Error> {
/// let (model, base) = ("llama-1b.gguf".as_ref(), "Llama-3.2-1B".as_ref());
/// let report = kquant::score(model, Some(base), "wiki.test.raw".as_ref(), &kquant::Settings::default())?;
/// println!("{}", report.text());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error`] when a model cannot be run, the text cannot be used or the vocabularies differ.
pub fn score(
    model: &Path,
    base: Option<&Path>,
    text: &Path,
    settings: &Settings,
) -> Result<evaluate::Report, Error> {
    let model = Model::open(model, None)?;
    let base = base.map(|base| Model::open(base, None)).transpose()?;
    // A model with a trimmed vocabulary is scored on the tokens that it has left.
    let ids = base.as_ref().map(|base| model.ids_in(base)).transpose()?.flatten();
    let chunks = TextFile::read(text)?.chunks(&model, Cut::default())?;
    let context = settings.context();
    let works = std::iter::once(&model).chain(&base).map(|model| evaluate::work(model, &chunks));
    context.progress.begin(works.sum(), Unit::Work);
    let reference = base.as_ref().map(|base| match &ids {
        Some(ids) => Reference::Larger { model: base, ids },
        None => Reference::Model(base),
    });
    let scored = settings.on_threads(|| {
        evaluate::evaluate(&model, reference.as_ref(), &chunks, None, &context, &mut |_| {})
    })?;
    Ok(scored?)
}
