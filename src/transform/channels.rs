//! A model with some of the channels of its feed-forward network.

use std::sync::Arc;

use kquant_formats::gguf::Value;

use super::further::{FURTHER, has_further};
use crate::convert::Converted;
use crate::tensor::{MappedTensor, Selection, Source, Stash, TensorName};

/// The reason why channels cannot be taken out of a converted model.
#[derive(Debug, thiserror::Error)]
pub enum NarrowError {
    /// A tensor does not have one row for each channel, or two.
    #[error(
        "tensor `{tensor}` has {rows} rows for {channels} channels, so that rows cannot be taken by channel"
    )]
    Rows {
        /// GGUF name of the tensor.
        tensor: String,
        /// Its number of rows.
        rows: u64,
        /// Number of channels.
        channels: u64,
    },
    /// Blocks after the last layer would not fit.
    #[error("{FURTHER}")]
    Further,
    /// The width of the network is not in the metadata.
    #[error(
        "the metadata have no single number under `*.feed_forward_length`, which is the width of the network"
    )]
    NoWidth,
}

/// Returns `input` with the channels `kept[layer]` of each layer alone, all of the same number, and with the weights in `changed` in the place
/// of those of the same name and shape.
///
/// # Errors
/// Fails when a tensor has no rows that belong to channels, or the metadata no width.
pub fn narrow(
    input: &Converted,
    kept: &[Arc<[u32]>],
    changed: &Arc<Stash>,
) -> Result<Converted, NarrowError> {
    if has_further(&input.metadata) {
        return Err(NarrowError::Further);
    }
    let tensors = input.tensors.iter().map(|tensor| {
        let tensor = replaced(tensor, changed);
        let kept = TensorName(&tensor.name).layer().and_then(|layer| kept.get(layer as usize));
        kept.map_or_else(|| Ok(tensor.clone()), |kept| narrowed(input, &tensor, kept))
    });
    let tensors = tensors.collect::<Result<_, _>>()?;
    let width = kept.first().map_or(0, |kept| kept.len() as u32);
    let mut metadata = input.metadata.clone();
    let key = metadata
        .iter()
        .find(|(key, value)| key.ends_with(".feed_forward_length") && value.as_u64().is_some());
    let key = key.map(|(key, _)| key.to_owned()).ok_or(NarrowError::NoWidth)?;
    metadata.set(key, Value::U32(width));
    Ok(Converted {
        metadata,
        tensors,
        warnings: input.warnings.clone(),
        notes: input.notes.clone(),
        limits: input.limits.clone(),
    })
}

/// Returns `input` with the weights in `changed` in the place of those of the same name and shape.
pub fn changed(input: &Converted, changed: &Arc<Stash>) -> Converted {
    let tensors = input.tensors.iter().map(|tensor| replaced(tensor, changed)).collect();
    Converted { tensors, ..input.clone() }
}

/// Returns `tensor` with the weights that `changed` has under its name, if it has any.
pub(super) fn replaced(tensor: &MappedTensor, changed: &Arc<Stash>) -> MappedTensor {
    match changed.contains(&tensor.name) {
        true => {
            let source = Source::Changed { stash: changed.clone(), name: tensor.name.clone() };
            MappedTensor { source, ..tensor.clone() }
        }
        false => tensor.clone(),
    }
}

/// Returns `tensor` with the channels `kept` alone, if it has a row, an element or a column for each.
fn narrowed(
    input: &Converted,
    tensor: &MappedTensor,
    kept: &Arc<[u32]>,
) -> Result<MappedTensor, NarrowError> {
    let Some((layer, part)) = tensor.name.rsplit_once(".ffn_") else { return Ok(tensor.clone()) };
    match part {
        // A norm of all channels (BitNet) becomes one of those that are left.
        "down.weight" | "sub_norm.weight" => Ok(tensor.select(Selection::of_columns(kept.clone()))),
        "gate.weight" | "up.weight" | "gate.bias" | "up.bias" => {
            let down = format!("{layer}.ffn_down.weight");
            let channels = input.tensors.iter().find(|t| t.name == down).map_or(0, MappedTensor::columns);
            let bias = tensor.is_bias();
            let rows = if bias { tensor.weights() } else { tensor.rows() };
            let taken = of_rows(rows, channels, kept).ok_or_else(|| NarrowError::Rows {
                tensor: tensor.name.clone(),
                rows,
                channels,
            })?;
            let of = if bias { Selection::of_columns } else { Selection::of_rows };
            Ok(tensor.select(of(taken)))
        }
        _ => Ok(tensor.clone()),
    }
}

/// Returns the rows of the channels `kept`. A tensor of twice as many rows as channels has the gate's before the others' (Phi 3).
fn of_rows(rows: u64, channels: u64, kept: &Arc<[u32]>) -> Option<Arc<[u32]>> {
    match rows {
        _ if rows == channels => Some(kept.clone()),
        _ if rows == 2 * channels => {
            Some(kept.iter().copied().chain(kept.iter().map(|&row| row + channels as u32)).collect())
        }
        _ => None,
    }
}
