//! From an input, the types of its tensors and statistics to a plan.

use std::collections::BTreeMap;

use kquant_formats::FormatError;
use kquant_formats::gguf::{Metadata, TensorSpec, Value, layout, split};
use kquant_formats::imatrix::Imatrix;
use kquant_kernels::block::{BlockType, Importance as Use};

use super::division::Division;
use super::file_name::file_name;
use super::inventory::Inventory;
use super::keys::output_metadata;
use super::overrides::{self, OverrideTypeError};
use crate::checkpoint::{Checkpoint, Opened, Quantization};
use crate::convert::Converted;
use crate::encode::Encoder;
use crate::plan::importance::{ImportanceError, select};
use crate::plan::{FallbackView, ImportanceMap, KeyOverride, Plan, PlannedFile, PlannedTensor};
use crate::recipe::{self, Choice, FileType, RecipeError, TensorFacts};
use crate::tensor::{MappedTensor, RowOrder, Source, TensorName};

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The opened input.
    pub opened: &'a Opened,
    /// Its tensors and metadata.
    pub input: &'a Converted,
    /// The tensors of the output, made of both.
    pub inventory: &'a Inventory<'a>,
    /// The type of each of them, in their order.
    pub choices: &'a [Choice],
    /// The file type that the metadata names.
    pub file_type: &'static FileType,
    /// What encodes the tensors that get no feedback.
    pub encoder: &'static dyn Encoder,
    /// Importance matrix and the name to record.
    pub imatrix: Option<(&'a str, &'a Imatrix)>,
    /// Keys that say how the types were chosen and how the layers will be calibrated.
    pub provenance: &'a Metadata,
    /// Whether layers are encoded with statistics of a text, so that no importance matrix is needed there.
    pub calibrated: bool,
    /// Metadata that the user sets.
    pub overrides: &'a [KeyOverride],
    /// How the output is divided into files.
    pub division: Division,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The types.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Another number of types than of tensors.
    #[error("{choices} types were chosen for {tensors} tensors")]
    Choices {
        /// Tensors of the output.
        tensors: usize,
        /// Choices given.
        choices: usize,
    },
    /// The statistics.
    #[error(transparent)]
    Statistics(#[from] ImportanceError),
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

/// Decides every output tensor's importance and place. Reads no tensor data.
///
/// # Errors
/// [`PlanError`], naming the tensor or option.
pub fn build(request: &Request) -> Result<(Plan, ImportanceMap), PlanError> {
    let (inventory, choices) = (request.inventory, request.choices);
    let facts = inventory.facts();
    if facts.len() != choices.len() {
        return Err(PlanError::Choices { tensors: facts.len(), choices: choices.len() });
    }
    // What a calibration will see needs no importance matrix.
    let is_required = |(tensor, choice): (&TensorFacts, &Choice)| {
        recipe::needs_importance(request.file_type, tensor, choice)
            && !(request.calibrated && TensorName(tensor.name).is_in_layers())
    };
    let required: Vec<bool> = facts.iter().zip(choices).map(is_required).collect();
    let typed: Vec<_> = inventory.tensors().iter().zip(choices).map(|(&t, c)| (t, c.block)).collect();
    let encoded: Vec<bool> = facts.iter().zip(choices).map(|(t, c)| c.block != t.source).collect();
    let (importance, found) = select(&typed, &encoded, &required, request.imatrix.map(|(_, m)| m))?;
    let mut tensors = Vec::new();
    for ((mapped, choice), encoded) in inventory.tensors().iter().zip(choices).zip(encoded) {
        tensors.push(planned(mapped, choice, encoded, &importance, request)?);
    }
    let files = request.division.files(inventory.tensors(), request.opened);
    let last = files.iter().max().copied().unwrap_or(0);
    tensors.iter_mut().zip(files).for_each(|(tensor, file)| tensor.file = file);
    let (metadata, overridden) = metadata(&tensors, request)?;
    let files = lay_out(&mut tensors, &metadata, request.division.count(last))?;
    let warnings = request.input.warnings.iter().cloned().chain(found).collect();
    let bounded = request.opened.quantization.iter().filter(|q| q.is_lossy()).map(bounded);
    let found = request.opened.notes.iter().chain(&request.input.notes).cloned();
    let notes = found.chain(bounded).chain(overridden).collect();
    let file_name = file_name(&metadata, encoding(&metadata, request.file_type));
    Ok((Plan { tensors, files, file_name, warnings, notes }, importance))
}

/// What is to be known of a source that is quantized.
fn bounded(quantization: &Quantization) -> String {
    format!(
        "the source is quantized ({}): the result can be no better than that, and errors add up. The original, where \
         there is one, gives more",
        quantization.describe()
    )
}

pub(super) fn tensor_error(tensor: &MappedTensor, what: String) -> PlanError {
    PlanError::Tensor { tensor: tensor.name.clone(), shape: tensor.shape.clone(), what }
}

/// One tensor of the plan, its file and place still open.
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
        encoder: request.encoder,
        file: 0,
        offset: 0,
        bytes,
    })
}

/// Whether the rows of `mapped` are rows of the checkpoint, stored as `block`.
fn copied_whole(mapped: &MappedTensor, checkpoint: &dyn Checkpoint, block: &BlockType) -> bool {
    let stored = |index: usize| checkpoint.tensors().get(index).is_some_and(|t| t.block == Some(block));
    match &mapped.source {
        Source::Tensor { index, rows } => {
            let whole =
                *rows == RowOrder::Same || (matches!(rows, RowOrder::Picked { .. }) && !mapped.is_bias());
            whole && stored(*index)
        }
        Source::Stacked { indices } => indices.iter().all(|&index| stored(index)),
        Source::Selected { of, selection } => {
            selection.columns.is_none() && copied_whole(of, checkpoint, block)
        }
        Source::Shifted { .. }
        | Source::Scaled { .. }
        | Source::Rates { .. }
        | Source::Values(_)
        | Source::Changed { .. } => false,
    }
}

/// The metadata of the output, and notes on keys that the user adds.
fn metadata(
    tensors: &[PlannedTensor],
    request: &Request,
) -> Result<(Metadata, Vec<String>), OverrideTypeError> {
    let file_type = request.file_type.id.or_else(|| kept_file_type(tensors, &request.input.metadata));
    let mut metadata = output_metadata(&request.input.metadata, file_type, request.imatrix);
    for (key, value) in request.provenance.iter() {
        metadata.remove(key);
        metadata.set(key, value.clone());
    }
    let notes = overrides::apply(&mut metadata, request.overrides)?;
    Ok((metadata, notes))
}

/// Puts every tensor at its place and makes the headers of `count` files.
fn lay_out(
    tensors: &mut [PlannedTensor],
    metadata: &Metadata,
    count: usize,
) -> Result<Vec<PlannedFile>, PlanError> {
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
        let mut keys = if file == 0 { metadata.clone() } else { split::follower_keys(metadata) };
        if count > 1 {
            keys.set(split::NO, Value::U16(file as u16));
            keys.set(split::COUNT, Value::U16(shards));
            keys.set(split::TENSORS, Value::I32(total as i32));
        }
        let placed = layout(&keys, &specs)?;
        for (tensor, offset) in own.iter_mut().zip(&placed.offsets) {
            tensor.offset = *offset;
        }
        files.push(PlannedFile { header: placed.header, bytes: placed.total, alignment: placed.alignment });
    }
    Ok(files)
}

/// The name of the file type that the keys state.
fn encoding(metadata: &Metadata, asked: &FileType) -> &'static str {
    let stated = metadata.get("general.file_type").and_then(Value::as_u64);
    let known = recipe::FILE_TYPES.iter().find(|t| t.id.is_some() && t.id.map(u64::from) == stated);
    known.map_or(asked.name, |file_type| file_type.name)
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
