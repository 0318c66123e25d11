//! Keys of GGUF whose values are numbers that the checkpoint stores as tensors, one for each layer.

use kquant_formats::gguf::{Array, Value};

use super::dims::Sizes;
use super::mapping::Table;
use crate::arch::error::ArchError;
use crate::checkpoint::Checkpoint;
use crate::tensor::{Keep, MappedTensor, RowOrder, Source, read_rows};

impl Table {
    /// Returns the keys of a model of these sizes, in the order of the table, with values read from `checkpoint`.
    ///
    /// # Errors
    /// Fails when a layer lacks a number, or it cannot be read.
    pub(in crate::arch) fn stored_keys(
        &self,
        sizes: &Sizes,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Vec<(String, Value)>, ArchError> {
        let mut keys = Vec::new();
        for entry in self.entries.iter().copied().flatten() {
            let Some(key) = entry.key_name() else { continue };
            let mut values = vec![None; sizes.layers.min(1 << 16) as usize];
            for (index, info) in checkpoint.tensors().iter().enumerate() {
                let place = self.located(&info.name).filter(|(pattern, _)| pattern == entry.from);
                let slot = place.and_then(|(_, place)| values.get_mut(place.layer? as usize));
                if let Some(slot) = slot {
                    *slot = Some(number(checkpoint, index)?);
                }
            }
            let missing = || ArchError::Read(format!("not every layer has a number {}", entry.from));
            let values = values.into_iter().collect::<Option<Vec<f32>>>().ok_or_else(missing)?;
            keys.push((key.to_owned(), Value::Array(Array::F32(values))));
        }
        Ok(keys)
    }

    /// Returns true if checkpoint tensor `name` becomes a part of a key.
    pub(in crate::arch) fn is_stored_key(&self, name: &str) -> bool {
        let mut keys = self.entries.iter().copied().flatten().filter(|entry| entry.key_name().is_some());
        self.located(name).is_some_and(|(pattern, _)| keys.any(|entry| entry.from == pattern))
    }
}

/// Reads the only number of checkpoint tensor `index`.
fn number(checkpoint: &dyn Checkpoint, index: usize) -> Result<f32, ArchError> {
    let tensor = MappedTensor {
        name: String::new(),
        shape: vec![1],
        source: Source::Tensor { index, rows: RowOrder::Same },
        keep: Keep::F32,
    };
    let mut out = [0.0];
    read_rows(checkpoint, &tensor, 0..1, &mut out).map_err(|e| ArchError::Read(e.to_string()))?;
    Ok(out[0])
}
