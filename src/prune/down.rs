//! Weights of linear maps whose inputs are cut or moved, with their biases as one more column: reading, and what stands in for them.

use kquant_kernels::block::by_name;

use super::layer::Down;
use crate::model::{Model, ModelError};
use crate::tensor::Stash;

/// The weights of a model.
pub(super) struct Downs<'a>(pub &'a Model);

impl Downs<'_> {
    /// Returns the GGUF name of the bias of the weight `name`, if it has one.
    pub(super) fn bias(&self, name: &str) -> Option<String> {
        let bias = name.strip_suffix("weight").map(|stem| format!("{stem}bias"))?;
        self.0.find(&bias).is_some().then_some(bias)
    }

    /// Reads the weight `name`, with its bias as the last column if it has one.
    pub(super) fn read(&self, name: &str) -> Result<Down, ModelError> {
        let model = self.0;
        let missing = || ModelError::Tensor { tensor: name.to_owned(), what: "is missing".into() };
        let tensor = model.find(name).ok_or_else(missing)?;
        let channels = tensor.columns() as usize;
        let weight = model.values(tensor)?;
        let Some(bias) = self.bias(name).and_then(|bias| model.find(&bias)) else {
            return Ok(Down { weight: weight.into_iter().map(f64::from).collect(), n: channels, channels });
        };
        let bias = model.values(bias)?;
        let rows = weight.chunks_exact(channels).zip(bias);
        let weight = rows.flat_map(|(row, bias)| row.iter().copied().chain([bias]).map(f64::from)).collect();
        Ok(Down { weight, n: channels + 1, channels })
    }

    /// Keeps the new weight `[rows][n]` in `stash` as what stands in for `name` and for its bias.
    pub(super) fn keep(
        &self,
        stash: &mut Stash,
        name: &str,
        down: &Down,
        new: &[f64],
    ) -> Result<(), ModelError> {
        let bytes = |values: &mut dyn Iterator<Item = f64>| -> Vec<u8> {
            values.flat_map(|v| (v as f32).to_le_bytes()).collect()
        };
        let f32_type = by_name("F32")
            .ok_or_else(|| ModelError::Tensor { tensor: name.to_owned(), what: "F32".into() })?;
        let rows = new.chunks_exact(down.n);
        let weight = bytes(&mut rows.clone().flat_map(|row| &row[..down.channels]).copied());
        stash.insert(name, f32_type, down.channels, weight)?;
        if let Some(bias) = self.bias(name) {
            let count = rows.len();
            stash.insert(&bias, f32_type, count, bytes(&mut rows.map(|row| row[down.channels])))?;
        }
        Ok(())
    }
}
