//! Names, shapes and types of the new checkpoint's tensors.

use std::collections::{BTreeMap, HashMap};

use kquant_formats::safetensors::{Dtype, NewTensor};
use kquant_formats::source::Extent;

use super::FolderError;
use super::place::places;
use crate::arch::{self, Architecture, Config};
use crate::checkpoint::{Checkpoint, Opened, ReadError, TensorInfo};
use crate::convert::Converted;
use crate::tensor::{MappedTensor, TensorName};

/// Returns the tensors of the new checkpoint, in the source's order.
pub(super) fn outline(
    opened: &Opened,
    base: &Converted,
    pruned: &Converted,
    layers: &[u32],
    (family, config): (&dyn Architecture, &Config),
    kind: Option<&str>,
) -> Result<Vec<NewTensor>, FolderError> {
    let stored = opened.checkpoint.tensors();
    let bases: HashMap<&str, &MappedTensor> = base.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    // By new layer and place in the source, so that names come in the source's order.
    let mut names: BTreeMap<(Option<u32>, usize), String> = BTreeMap::new();
    for tensor in &pruned.tensors {
        let layer = TensorName(&tensor.name).layer();
        let was = layer.and_then(|layer| layers.get(layer as usize));
        let of = match layer.zip(was) {
            Some((new, was)) => tensor.name.replacen(&format!("blk.{new}."), &format!("blk.{was}."), 1),
            None => tensor.name.clone(),
        };
        let of = bases.get(of.as_str()).ok_or_else(|| FolderError::Foreign(tensor.name.clone()))?;
        for (index, _) in places(of).into_iter().flatten() {
            let Some(info) = stored.get(index) else { continue };
            let name = layer.map_or_else(|| info.name.clone(), |l| arch::stored_in_layer(&info.name, l));
            names.insert((layer, index), name);
        }
    }
    for (index, info) in stored.iter().enumerate().filter(|(_, info)| family.is_stored_key(&info.name)) {
        for new in 0..layers.len() as u32 {
            let was = layers.get(new as usize).copied();
            if was.is_some_and(|was| arch::stored_in_layer(&info.name, was) == info.name) {
                names.insert((Some(new), index), arch::stored_in_layer(&info.name, new));
            }
        }
    }
    let list: Vec<&str> = names.values().map(String::as_str).collect();
    let shapes = family.stored_shapes(config, &list)?;
    let mut tensors = Vec::with_capacity(names.len());
    for (((_, index), name), shape) in names.iter().zip(shapes) {
        // Experts past the last one that is left have no shape.
        let Some(shape) = shape else { continue };
        let dtype = dtype(opened, &stored[*index], kind)?;
        tensors.push(NewTensor { name: name.clone(), dtype, shape });
    }
    Ok(tensors)
}

/// Returns the type in which the weights of `info` are written.
pub(super) fn dtype(opened: &Opened, info: &TensorInfo, kind: Option<&str>) -> Result<Dtype, FolderError> {
    let own = Dtype::of_weights(info.dtype).filter(|_| opened.quantization.is_none());
    let quantized = || FolderError::Quantized { tensor: info.name.clone(), dtype: info.dtype.to_owned() };
    let own = own.ok_or_else(quantized)?;
    Ok(kind.and_then(Dtype::of_weights).unwrap_or(own))
}

/// A checkpoint of which names and shapes are known, and no weights.
pub(super) struct Outline(Vec<TensorInfo>);

impl Outline {
    /// Returns the checkpoint of `tensors`.
    pub(super) fn of(tensors: &[NewTensor]) -> Self {
        let info = |tensor: &NewTensor| TensorInfo {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: tensor.dtype.name(),
            block: None,
            stored: (1, tensor.dtype.bytes()),
            gathered: None,
            shard: 0,
        };
        Self(tensors.iter().map(info).collect())
    }
}

impl Checkpoint for Outline {
    fn tensors(&self) -> &[TensorInfo] {
        &self.0
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|tensor| tensor.name == name)
    }

    fn extent(&self, tensor: usize) -> Result<Extent<'_>, ReadError> {
        Err(ReadError(format!("tensor number {tensor} is not written yet")))
    }

    fn decode(&self, tensor: usize, _: (u64, u64), _: &[u8], _: &mut [f32]) -> Result<(), ReadError> {
        self.extent(tensor).map(drop)
    }
}
