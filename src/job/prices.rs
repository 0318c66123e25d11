//! The prices of a model's tensors: from a file, or measured by the statistics at hand.

use std::path::{Path, PathBuf};

use kquant_formats::imatrix::Imatrix;
use kquant_formats::{FormatError, whole};
use kquant_kernels::block::BlockType;

use super::method::Method;
use super::statistics::{PreparedStatistics, PricedBy, Statistics};
use crate::context::{Context, Unit};
use crate::model::{Model, ModelError};
use crate::prices::{PriceError, Pricing};
use crate::recipe::{PriceList, RecipeError};

/// What prices are made with.
pub struct PriceRequest<'a> {
    /// How weights will be rounded.
    pub method: &'a Method,
    /// The types to price.
    pub types: &'a [&'static BlockType],
}

/// Why there are no prices.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// The file of prices cannot be read.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The file is no price list.
    #[error("{path}")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RecipeError,
    },
    /// Nothing is known of the model's inputs.
    #[error(
        "prices need to know what errors cost: give --calibrate TEXT, --statistics with statistics of `kquant calibrate --fisher \
         --output-tensor`, or --prices with a list of `kquant prices`"
    )]
    NoStatistics,
    /// The model cannot be opened.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor cannot be priced.
    #[error(transparent)]
    Price(#[from] PriceError),
}

/// Reads the price list `path`.
///
/// # Errors
/// When it cannot be read or is none.
pub fn read_prices(path: &Path) -> Result<PriceList, PricesError> {
    let bytes = whole::read(path, whole::CONFIGURATION)?;
    let list = PriceList::parse(&String::from_utf8_lossy(&bytes));
    list.map_err(|source| PricesError::List { path: path.to_owned(), source })
}

/// Prices the tensors of a model by what is known of it: in nats, where that has gradients, and else as relative errors. `open` opens the model where no
/// statistics file came with it.
///
/// # Errors
/// Fails when nothing is known, the model or the file cannot be read, or a tensor cannot be priced.
pub fn prices(
    request: &PriceRequest,
    made: &PreparedStatistics,
    open: &(dyn Fn() -> Result<Model, ModelError> + Sync),
    context: &Context,
) -> Result<PriceList, PricesError> {
    match (&made.priced_by, &made.statistics) {
        (Some(PricedBy { model, file }), _) if file.description().fishers.is_some() => {
            let pricing = request.pricing(model);
            context.progress.begin(pricing.work()?, Unit::Work);
            Ok(pricing.by_statistics(file, context)?)
        }
        (Some(PricedBy { model, file }), _) => relative_prices(request, model, file.importance(), context),
        (None, Statistics::File(path)) => relative_prices(request, &open()?, &Imatrix::open(path)?, context),
        _ => Err(PricesError::NoStatistics),
    }
}

/// Prices the tensors of `model` by an importance matrix alone.
fn relative_prices(
    request: &PriceRequest,
    model: &Model,
    imatrix: &Imatrix,
    context: &Context,
) -> Result<PriceList, PricesError> {
    let pricing = request.pricing(model);
    context.progress.begin(pricing.work()?, Unit::Work);
    Ok(pricing.by_importance(imatrix, context)?)
}

impl PriceRequest<'_> {
    fn pricing<'b>(&'b self, model: &'b Model) -> Pricing<'b> {
        Pricing {
            model,
            types: self.types,
            encoder: self.method.encoder,
            layers: self.method.layers.as_deref(),
            with_output: self.method.with_output,
        }
    }
}
