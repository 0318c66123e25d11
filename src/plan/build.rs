//! From an input, a recipe and statistics to a plan.

use std::collections::BTreeMap;

use kquant_formats::FormatError;
use kquant_formats::gguf::{Metadata, TensorSpec, Value, layout, split};
use kquant_formats::imatrix::Imatrix;
use kquant_kernels::block::{self, BlockType, Importance as Use};

use super::keys::output_metadata;
use super::overrides::{self, OverrideTypeError};
use crate::checkpoint::{Checkpoint, Opened, Quantization};
use crate::convert::Converted;
use crate::plan::importance::{StatisticsError, select};
use crate::plan::{FallbackView, ImportanceMap, KeyOverride, Plan, PlannedFile, PlannedTensor, Provenance};
use crate::recipe::{self, Choice, ModelFacts, RecipeError, TensorFacts};
use crate::tensor::{Keep, MappedTensor, Rows, Source, TensorName};

/// What a plan is made from.
pub struct Request<'a> {
    /// The opened input.
    pub opened: &'a Opened,
    /// Its tensors and metadata.
    pub input: &'a Converted,
    /// Types wanted.
    pub recipe: &'a recipe::Options,
    /// Importance matrix and the name to record.
    pub imatrix: Option<(&'a str, &'a Imatrix)>,
    /// The text that layers will be calibrated with.
    pub calibration: Option<&'a Provenance>,
    /// Metadata that the user sets.
    pub overrides: &'a [KeyOverride],
    /// Whether the output is split as the input is.
    pub keep_split: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The types.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The statistics.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The layout of the output.
    #[error(transparent)]
    Layout(#[from] FormatError),
    /// Metadata that the user sets.
    #[error(transparent)]
    Override(#[from] OverrideTypeError),
    /// A split that GGUF's keys cannot count.
    #[error("{0} files are more than a split GGUF can have; leave out --keep-split")]
    TooManyFiles(usize),
    /// A tensor that no GGUF type can hold.
    #[error("tensor `{tensor}` {shape:?}: {what}")]
    Tensor {
        /// GGUF name.
        tensor: String,
        /// Dimensions, columns first.
        shape: Vec<u64>,
        /// Why, and what to do.
        what: String,
    },
}

/// Decides every output tensor's type, importance and place. Reads no tensor data.
///
/// # Errors
/// [`PlanError`], naming the tensor or option.
pub fn build(request: &Request) -> Result<(Plan, ImportanceMap), PlanError> {
    let checkpoint = request.opened.checkpoint.as_ref();
    let ordered = output_order(request);
    let kept: Vec<&BlockType> = ordered.iter().map(|t| kept_type(t, checkpoint)).collect::<Result<_, _>>()?;
    let facts: Vec<TensorFacts> = ordered
        .iter()
        .zip(&kept)
        .map(|(t, &source)| TensorFacts { name: &t.name, shape: &t.shape, source })
        .collect();
    let names: Vec<&str> = facts.iter().map(|t| t.name).collect();
    let calibrated = request.calibration.is_some();
    let has_importance = request.imatrix.is_some() || calibrated;
    let model = ModelFacts::from_metadata(&request.input.metadata, &names, has_importance);
    let choices = recipe::assign(request.recipe, &model, &facts)?;
    let file_type = request.recipe.file_type;
    let required: Vec<bool> =
        facts.iter().zip(&choices).map(|(t, c)| recipe::needs_importance(file_type, t, c)).collect();
    // What a calibration will see needs no importance matrix.
    let required: Vec<bool> = required
        .iter()
        .zip(&facts)
        .map(|(&required, t)| required && !(calibrated && TensorName(t.name).is_in_layers()))
        .collect();

    let typed: Vec<_> = ordered.iter().zip(&choices).map(|(&t, c)| (t, c.block)).collect();
    let encoded: Vec<bool> = choices.iter().zip(&kept).map(|(c, &kept)| c.block != kept).collect();

    let (importance, found) = select(&typed, &encoded, &required, request.imatrix.map(|(_, m)| m))?;
    let mut tensors = Vec::new();
    for ((mapped, choice), encoded) in ordered.iter().zip(&choices).zip(encoded) {
        tensors.push(planned(mapped, choice, encoded, &importance, request)?);
    }
    let (metadata, overridden) = metadata(&tensors, request)?;
    let files = lay_out(&mut tensors, &metadata)?;
    let warnings = request.input.warnings.iter().cloned().chain(found).collect();
    let bounded = request.opened.quantization.iter().filter(|q| q.is_lossy()).map(bounded);
    let found = request.opened.notes.iter().chain(&request.input.notes).cloned();
    let notes = found.chain(bounded).chain(overridden).collect();
    Ok((Plan { tensors, files, warnings, notes }, importance))
}

/// What is to be known of a source that is quantized.
fn bounded(quantization: &Quantization) -> String {
    format!(
        "the source is quantized ({}): the result can be no better than that, and errors add up. The original, where \
         there is one, gives more",
        quantization.describe()
    )
}

/// The input's tensors in the order in which they are written: llama-quantize's, by shard when the split is kept.
fn output_order<'a>(request: &Request<'a>) -> Vec<&'a MappedTensor> {
    let tensors = &request.input.tensors;
    if request.keep_split {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| (shard(&tensors[i], request), i));
        return order.into_iter().map(|i| &tensors[i]).collect();
    }
    let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    recipe::output_order(&names).into_iter().map(|i| &tensors[i]).collect()
}

/// File of the input that holds the tensor; computed ones go with the first.
fn shard(tensor: &MappedTensor, request: &Request) -> usize {
    let stored = tensor.first_stored().and_then(|index| request.opened.checkpoint.tensors().get(index));
    stored.map_or(0, |t| t.shard)
}

/// The type that the tensor has when nothing touches it.
fn kept_type(tensor: &MappedTensor, checkpoint: &dyn Checkpoint) -> Result<&'static BlockType, PlanError> {
    let name = match (tensor.first_stored(), tensor.keep) {
        (None, _) | (_, Keep::F32) => "F32",
        (Some(index), Keep::Source) => {
            let stored = checkpoint.tensors().get(index);
            match stored.and_then(|t| t.block.or(t.gathered.and_then(|gathered| gathered.plain))) {
                Some(block) => return Ok(block),
                // 8-bit floats and their scales have no type of their own in GGUF.
                None => "BF16",
            }
        }
    };
    block::by_name(name).ok_or_else(|| tensor_error(tensor, format!("the type table lacks {name}")))
}

fn tensor_error(tensor: &MappedTensor, what: String) -> PlanError {
    PlanError::Tensor { tensor: tensor.name.clone(), shape: tensor.shape.clone(), what }
}

/// One tensor of the plan, its place still open.
fn planned(
    mapped: &MappedTensor,
    choice: &Choice,
    encoded: bool,
    importance: &ImportanceMap,
    request: &Request,
) -> Result<PlannedTensor, PlanError> {
    let block = choice.block;
    let columns = mapped.shape.first().copied().unwrap_or(1);
    let rows = mapped.shape.iter().skip(1).try_fold(1u64, |n, &d| n.checked_mul(d));
    let bytes = block.row_bytes(columns).zip(rows).and_then(|(row, rows)| row.checked_mul(rows)).ok_or_else(
        || {
            tensor_error(
                mapped,
                format!("rows of {columns} weights are no whole number of {} blocks", block.name),
            )
        },
    )?;
    let checkpoint = request.opened.checkpoint.as_ref();
    let stored = mapped.first_stored().and_then(|index| checkpoint.tensors().get(index));
    let copy = copied_whole(mapped, checkpoint, block);
    if !copy && block.encode.is_none() {
        return Err(tensor_error(
            mapped,
            format!("kquant cannot encode {}; choose another type", block.name),
        ));
    }
    Ok(PlannedTensor {
        mapped: mapped.clone(),
        source_type: stored.map_or("F32", |t| t.dtype),
        block,
        copy,
        importance: encoded && block.importance != Use::Ignored && importance.contains_key(&mapped.name),
        fallback: choice
            .fallback
            .as_ref()
            .map(|f| FallbackView { wanted: f.wanted.name, why: f.why.clone() }),
        file: if request.keep_split { shard(mapped, request) } else { 0 },
        offset: 0,
        bytes,
    })
}

/// Whether the rows of `mapped` are rows of the checkpoint, stored as `block`.
fn copied_whole(mapped: &MappedTensor, checkpoint: &dyn Checkpoint, block: &BlockType) -> bool {
    let stored = |index: usize| checkpoint.tensors().get(index).is_some_and(|t| t.block == Some(block));
    match &mapped.source {
        Source::Tensor { index, rows } => {
            let whole = *rows == Rows::Same || (matches!(rows, Rows::Picked { .. }) && !mapped.is_bias());
            whole && stored(*index)
        }
        Source::Stacked { indices } => indices.iter().all(|&index| stored(index)),
        Source::Shifted { .. } | Source::Values(_) => false,
    }
}

/// The metadata of the output, and notes on keys that the user adds.
fn metadata(
    tensors: &[PlannedTensor],
    request: &Request,
) -> Result<(Metadata, Vec<String>), OverrideTypeError> {
    let file_type = request.recipe.file_type.id.or_else(|| kept_file_type(tensors, &request.input.metadata));
    let mut metadata = output_metadata(&request.input.metadata, file_type, request.imatrix);
    if let Some(calibration) = request.calibration {
        calibration.record(&mut metadata);
    }
    let notes = overrides::apply(&mut metadata, request.overrides)?;
    Ok((metadata, notes))
}

/// Puts every tensor at its place and makes the headers.
fn lay_out(tensors: &mut [PlannedTensor], metadata: &Metadata) -> Result<Vec<PlannedFile>, PlanError> {
    let count = tensors.iter().map(|t| t.file + 1).max().unwrap_or(1);
    let shards = u16::try_from(count).map_err(|_| PlanError::TooManyFiles(count))?;
    let total = tensors.len();
    let mut files = Vec::new();
    for file in 0..count {
        let mut own: Vec<&mut PlannedTensor> = tensors.iter_mut().filter(|t| t.file == file).collect();
        let specs: Vec<TensorSpec> = own
            .iter()
            .map(|t| TensorSpec {
                name: t.mapped.name.clone(),
                shape: t.mapped.shape.clone(),
                type_id: t.block.id,
                bytes: t.bytes,
            })
            .collect();
        let mut keys = if file == 0 { metadata.clone() } else { shard_metadata(metadata) };
        if count > 1 {
            keys.set(split::NO, Value::U16(file as u16));
            keys.set(split::COUNT, Value::U16(shards));
            keys.set(split::TENSORS, Value::I32(total as i32));
        }
        let placed = layout(&keys, &specs)?;
        for (tensor, offset) in own.iter_mut().zip(&placed.offsets) {
            tensor.offset = *offset;
        }
        files.push(PlannedFile { header: placed.header, bytes: placed.total });
    }
    Ok(files)
}

/// The file type of a copy: a GGUF knows its own, that of a checkpoint is the one that most of its weights have.
fn kept_file_type(tensors: &[PlannedTensor], input: &Metadata) -> Option<u32> {
    if input.get("general.file_type").is_some() {
        return None;
    }
    let mut weights: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in tensors.iter().filter(|t| t.mapped.shape.len() > 1) {
        *weights.entry(tensor.block.name).or_default() += tensor.mapped.weights();
    }
    let (name, _) = weights.into_iter().max_by_key(|&(_, weights)| weights)?;
    recipe::FILE_TYPES.iter().find(|t| t.base == Some(name))?.id
}

/// Keys of the files after the first: only what a reader of that file alone needs.
fn shard_metadata(first: &Metadata) -> Metadata {
    let mut keys = Metadata::new();
    if let Some(alignment) = first.get("general.alignment") {
        keys.set("general.alignment", alignment.clone());
    }
    keys
}
