//! All tensors of a model, priced by a statistics file.

use std::collections::BTreeMap;

use kquant_kernels::block::{BlockType, Importance};

use super::error::PriceError;
use super::rounded::SampledRows;
use crate::context::Context;
use crate::encode::{Encoder, LayerMethod};
use crate::model::{EMBEDDING, Model, ModelError, OUTPUT};
use crate::plan::{Division, Inventory};
use crate::recipe::{PRICES_VERSION, Price, PriceList, PriceOrigin, PriceUnit, TensorPrices, may_convert};
use crate::statistics::HessianFile;
use crate::tensor::MappedTensor;

/// Weights of a tensor whose errors are measured at each type: enough rows for a few percent.
const SAMPLED_WEIGHTS: usize = 1 << 17;

/// Rows that are measured at least.
const FEWEST_ROWS: usize = 48;

/// Rows of a tensor that are read at a time.
const SLAB: u64 = 4096;

/// Prices to be measured: of which model and types, and how the file will be made.
pub struct Pricing<'a> {
    /// The original.
    pub model: &'a Model,
    /// The types.
    pub types: &'a [&'static BlockType],
    /// What will encode tensors row by row.
    pub encoder: &'static dyn Encoder,
    /// What will encode the matrices of layers by their statistics, if the encoder has such a method.
    pub layers: Option<&'a dyn LayerMethod>,
    /// Whether the output projection gets feedback, too.
    pub with_output: bool,
}

/// Costs of one tensor at the types that fit its rows, in the order of [`Pricing::types_for`]; none for a type that it cannot have.
pub(super) type Costs = Vec<Option<f64>>;

impl Pricing<'_> {
    /// Prices every tensor of which `file` knows enough, in nats.
    ///
    /// # Errors
    /// [`PriceError`]: statistics of another model or that cannot be read, too little memory, a weight that a type cannot hold, cancellation.
    pub fn by_statistics(&self, file: &HessianFile, context: &Context) -> Result<PriceList, PriceError> {
        let inventory = Inventory::new(self.model.opened(), self.model.converted(), Division::OneFile)?;
        let wanted: BTreeMap<&str, &MappedTensor> =
            self.convertible(&inventory).map(|t| (t.name.as_str(), t)).collect();
        let mut costs: BTreeMap<String, Costs> = BTreeMap::new();
        let mut done = 0;
        for name in [EMBEDDING, OUTPUT] {
            let Some(&tensor) = wanted.get(name) else { continue };
            if let Some(found) = self.table(tensor, file, context)? {
                costs.insert(name.to_owned(), found);
            }
            done += tensor.weights();
            self.advance(context, done, name)?;
        }
        for group in file.groups() {
            let tensors: Vec<&MappedTensor> =
                group.tensors().iter().filter_map(|name| wanted.get(name.as_str()).copied()).collect();
            let tensors: Vec<_> =
                tensors.into_iter().filter(|t| t.name != EMBEDDING && t.name != OUTPUT).collect();
            for (tensor, found) in tensors.iter().zip(self.linear(&group, &tensors, file, context)?) {
                costs.extend(found.map(|found| (tensor.name.clone(), found)));
                done += tensor.weights();
            }
            self.advance(context, done, group.tensors().first().map_or("", String::as_str))?;
        }
        let description = file.description();
        let tokens = u64::from(description.chunks) * u64::from(description.cut.context);
        let origin = self.origin(PriceUnit::Nats, description.datasets.clone(), tokens);
        Ok(self.list(&inventory, &costs, origin))
    }

    /// Units of work of pricing, as progress is told them: weights of the tensors that may get another type.
    ///
    /// # Errors
    /// As [`Inventory::new`].
    pub fn work(&self) -> Result<u64, PriceError> {
        let inventory = Inventory::new(self.model.opened(), self.model.converted(), Division::OneFile)?;
        Ok(self.convertible(&inventory).map(MappedTensor::weights).sum())
    }

    /// Whether the file will be made with Fisher matrices of outputs.
    pub(super) fn uses_fishers(&self) -> bool {
        self.layers.is_some_and(|layers| layers.needs().fishers)
    }

    /// The columns that `block` rounds together; 1 without a method for layers.
    pub(super) fn unit_of(&self, block: &BlockType) -> usize {
        self.layers.and_then(|layers| layers.unit(block)).unwrap_or(1)
    }

    /// The tensors that may get another type.
    pub(super) fn convertible<'b>(
        &self,
        inventory: &'b Inventory,
    ) -> impl Iterator<Item = &'b MappedTensor> + use<'b> {
        let model = inventory.model_facts(true);
        let facts = inventory.facts();
        let tensors = inventory.tensors().iter().zip(facts);
        tensors.filter(move |(_, facts)| may_convert(&model.arch, false, facts)).map(|(&tensor, _)| tensor)
    }

    /// The types that rows of `tensor` are whole blocks of.
    pub(super) fn types_for(&self, tensor: &MappedTensor) -> Vec<&'static BlockType> {
        let columns = tensor.columns();
        self.types.iter().copied().filter(|t| columns.is_multiple_of(t.elements as u64)).collect()
    }

    /// Returns whether a tensor can be `block`: some types cannot be encoded unless the importance of the columns is `known`.
    pub(super) fn can_have(&self, block: &BlockType, known: bool) -> bool {
        block.importance != Importance::Required || known
    }

    /// How many rows of `columns` columns are measured.
    pub(super) fn sampled_rows(columns: usize) -> usize {
        (SAMPLED_WEIGHTS / columns.max(1)).max(FEWEST_ROWS)
    }

    /// The rows `rows` of matrix `matrix` of `tensor`, `[rows][columns]`.
    pub(super) fn read(
        &self,
        tensor: &MappedTensor,
        matrix: usize,
        rows: &[usize],
    ) -> Result<Vec<f32>, PriceError> {
        let (count, columns) = (tensor.rows_per_matrix(), tensor.columns() as usize);
        let first = matrix as u64 * count;
        let mut weights = Vec::with_capacity(rows.len() * columns);
        let mut rest = rows;
        for start in (0..count).step_by(SLAB as usize) {
            let end = count.min(start + SLAB);
            let within = rest.partition_point(|&row| (row as u64) < end);
            let (here, later) = rest.split_at(within);
            rest = later;
            if here.is_empty() {
                continue;
            }
            let slab = self.model.row_values(tensor, first + start..first + end)?;
            for &row in here {
                weights.extend_from_slice(&slab[(row - start as usize) * columns..][..columns]);
            }
        }
        Ok(weights)
    }

    /// Rows of `tensor` with their weights, to be rounded.
    pub(super) fn rows<'b>(
        tensor: &'b MappedTensor,
        matrix: usize,
        rows: &'b [usize],
        weights: &'b [f32],
    ) -> SampledRows<'b> {
        let first_row = matrix as u64 * tensor.rows_per_matrix();
        SampledRows { tensor: &tensor.name, first_row, rows, weights, columns: tensor.columns() as usize }
    }

    /// Reports `done` units of work.
    pub(super) fn advance(&self, context: &Context, done: u64, what: &str) -> Result<(), PriceError> {
        context.progress.advance(done, what);
        Self::check_cancelled(context)
    }

    /// Stops when asked to.
    pub(super) fn check_cancelled(context: &Context) -> Result<(), PriceError> {
        if context.is_cancelled() { Err(ModelError::Interrupted.into()) } else { Ok(()) }
    }

    /// What a list in `unit` says of itself.
    pub(super) fn origin(&self, unit: PriceUnit, datasets: Vec<String>, tokens: u64) -> PriceOrigin {
        let (encoder, both_sides) = (self.encoder.name().to_owned(), self.uses_fishers());
        PriceOrigin { unit, encoder, both_sides, datasets, tokens }
    }

    /// The list of all tensors that have `costs`.
    pub(super) fn list(
        &self,
        inventory: &Inventory,
        costs: &BTreeMap<String, Costs>,
        origin: PriceOrigin,
    ) -> PriceList {
        let of_tensor = |tensor: &MappedTensor| {
            let prices = self.types_for(tensor).into_iter().zip(costs.get(&tensor.name)?);
            let price = |(block, &cost): (&'static BlockType, &Option<f64>)| Price {
                kind: block.name.to_owned(),
                bytes: block.row_bytes(tensor.columns()).unwrap_or_default() * tensor.rows(),
                cost,
            };
            let prices = prices.map(price).collect();
            Some(TensorPrices { name: tensor.name.clone(), shape: tensor.shape.clone(), prices })
        };
        let tensors = self.convertible(inventory).filter_map(of_tensor).collect();
        PriceList { version: PRICES_VERSION, origin, tensors }
    }
}
