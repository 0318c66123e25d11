//! A model with some of its experts.

use std::collections::BTreeMap;
use std::sync::Arc;

use kquant_formats::gguf::Value;

use super::further::{FURTHER, has_further};
use crate::convert::Converted;
use crate::tensor::{MappedTensor, Selection, TensorName};

/// The reason why experts cannot be taken out of a converted model.
#[derive(Debug, thiserror::Error)]
pub enum ExpertsError {
    /// The number of experts is not in the metadata.
    #[error("the metadata have no number under `*.expert_count`, which is that of the experts")]
    NoCount,
    /// Blocks after the last layer would not fit.
    #[error("{FURTHER}")]
    Further,
    /// A layer would have another number of experts than the others.
    #[error(
        "layer {layer} would have {found} experts, another layer has {expected}; keep the same number in each"
    )]
    Uneven {
        /// Number of the layer.
        layer: u32,
        /// Number of experts that it would keep.
        found: usize,
        /// Number of experts that another layer would keep.
        expected: usize,
    },
    /// A tensor has no part for each expert.
    #[error(
        "tensor `{tensor}` has shape {shape:?} (columns first), which has no part for each of {experts} experts"
    )]
    Shape {
        /// GGUF name of the tensor.
        tensor: String,
        /// Its dimensions.
        shape: Vec<u64>,
        /// Number of experts.
        experts: u64,
    },
}

/// Returns `input` with the experts `kept` alone, by layer, which are sorted and of the same number in each. Tokens are routed to no more
/// experts than are left.
///
/// # Errors
/// [`ExpertsError`], when the model has no number of experts, or a tensor has another one.
pub fn keep_experts(input: &Converted, kept: &BTreeMap<u32, Arc<[u32]>>) -> Result<Converted, ExpertsError> {
    let key = |name: &str| {
        let found = input.metadata.iter().find(|(key, _)| key.ends_with(name));
        found.and_then(|(key, value)| Some((key.to_owned(), value.as_u64()?)))
    };
    if has_further(&input.metadata) {
        return Err(ExpertsError::Further);
    }
    let (count_key, experts) = key(".expert_count").ok_or(ExpertsError::NoCount)?;
    let expected = kept.values().next().map_or(0, |kept| kept.len());
    if let Some((&layer, list)) = kept.iter().find(|(_, list)| list.len() != expected) {
        return Err(ExpertsError::Uneven { layer, found: list.len(), expected });
    }
    let tensors = input.tensors.iter().map(|tensor| {
        let kept = TensorName(&tensor.name).layer().and_then(|layer| kept.get(&layer));
        kept.map_or_else(|| Ok(tensor.clone()), |kept| left(tensor, kept, experts))
    });
    let tensors = tensors.collect::<Result<_, _>>()?;
    let mut metadata = input.metadata.clone();
    metadata.set(count_key, Value::U32(expected as u32));
    if let Some((used_key, used)) = key(".expert_used_count") {
        metadata.set(used_key, Value::U32(used.min(expected as u64) as u32));
    }
    Ok(Converted { metadata, tensors, ..input.clone() })
}

/// Takes the parts of the experts `kept`, if the tensor has one for each of `experts` experts.
fn left(tensor: &MappedTensor, kept: &Arc<[u32]>, experts: u64) -> Result<MappedTensor, ExpertsError> {
    let Some(kind) = TensorName(&tensor.name).kind() else { return Ok(tensor.clone()) };
    let of_router = ["ffn_gate_inp", "ffn_gate_inp.bias", "exp_probs_b", "exp_probs_b.bias"].contains(&kind);
    if !of_router && !TensorName(&tensor.name).is_of_experts() {
        return Ok(tensor.clone());
    }
    // The last dimension counts the experts: matrices, rows of the router and of stacked biases, or numbers.
    let take = match tensor.shape.len() {
        1 => Selection::of_columns,
        2 => Selection::of_rows,
        _ => Selection::of_matrices,
    };
    match tensor.shape.last() == Some(&experts) {
        true => Ok(tensor.select(take(kept.clone()))),
        false => {
            Err(ExpertsError::Shape { tensor: tensor.name.clone(), shape: tensor.shape.clone(), experts })
        }
    }
}
