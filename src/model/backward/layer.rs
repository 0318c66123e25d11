//! A layer's weights in both directions.

use super::super::products::Packed;
use super::super::weights::{Matrix, Weights};
use super::super::{Model, ModelError};

/// Weights of each operation of a layer.
pub(super) struct LayerWeights {
    pub forward: Vec<Weights>,
    /// Those of linear maps transposed, one for each matrix.
    pub back: Vec<Vec<Packed>>,
}

impl Model {
    /// Decodes the weights of layer `layer` for both directions.
    pub(super) fn weights_both_ways(&self, layer: usize) -> Result<LayerWeights, ModelError> {
        let forward = self.layer_weights(layer)?;
        let transposed = |matrix: &Matrix| matrix.weight.transposed();
        let back = forward.iter().map(|weights| match weights {
            Weights::Linear(matrix) => vec![transposed(matrix)],
            Weights::Matrices(matrices) => matrices.iter().map(transposed).collect(),
            _ => Vec::new(),
        });
        let back = back.collect();
        Ok(LayerWeights { forward, back })
    }
}
