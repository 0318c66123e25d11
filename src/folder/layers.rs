//! Layers of the new model by their numbers in the source.

use std::collections::HashMap;

use super::FolderError;
use crate::convert::Converted;
use crate::tensor::{MappedTensor, TensorName};

/// Returns the source's number of each layer of `pruned`.
///
/// Where no layer was cut, each is itself. Otherwise a layer is known by its tensors that still are the source's own.
///
/// # Errors
/// Fails when layers were cut and all tensors of one were changed, or they are of different layers.
pub(super) fn kept(base: &Converted, pruned: &Converted) -> Result<Vec<u32>, FolderError> {
    if count(base) == count(pruned) {
        return Ok((0..count(base)).collect());
    }
    let by_stored: HashMap<(usize, &str), u32> = base.tensors.iter().filter_map(known).collect();
    let mut layers: Vec<Option<u32>> = Vec::new();
    for tensor in &pruned.tensors {
        let Some(layer) = TensorName(&tensor.name).layer() else { continue };
        let layer = layer as usize;
        if layer >= layers.len() {
            layers.resize(layer + 1, None);
        }
        let source = tensor.first_stored().zip(TensorName(&tensor.name).kind());
        let Some(&was) = source.and_then(|key| by_stored.get(&key)) else { continue };
        if layers[layer].replace(was).is_some_and(|other| other != was) {
            return Err(FolderError::Foreign(tensor.name.clone()));
        }
    }
    let all = layers.iter().enumerate();
    all.map(|(layer, was)| was.ok_or_else(|| FolderError::Foreign(format!("blk.{layer}.*")))).collect()
}

/// Returns the number of layers.
fn count(model: &Converted) -> u32 {
    let layers = model.tensors.iter().filter_map(|tensor| TensorName(&tensor.name).layer());
    layers.max().map_or(0, |last| last.saturating_add(1))
}

/// Returns the layer of a tensor by what it is made of.
fn known(tensor: &MappedTensor) -> Option<((usize, &str), u32)> {
    let name = TensorName(&tensor.name);
    Some(((tensor.first_stored()?, name.kind()?), name.layer()?))
}
