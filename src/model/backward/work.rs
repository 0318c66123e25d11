//! How much there is to do, for the progress shown.

use super::super::Model;
use crate::graph::By;

/// Multiplications and additions on one token, about.
pub(super) struct Work {
    /// Of each layer's forward pass, and the outer products of what enters its linear maps.
    pub forward: Vec<u64>,
    /// Of the output projection, forward and back.
    pub head: u64,
    /// Of each layer backwards, and the outer products of the gradients.
    pub backward: Vec<u64>,
}

impl Work {
    pub(super) fn of(model: &Model) -> Self {
        let of_layer = |layer: usize| {
            let (mut weights, mut inputs, mut outputs) = (0, 0, 0);
            for map in model.ops(layer).iter().filter_map(|op| op.map()) {
                let Some(tensor) = model.find(&crate::graph::weight_name(layer, map.name)) else {
                    continue;
                };
                let met = match map.by {
                    None => 1,
                    Some(By::Heads) => tensor.matrices(),
                    Some(By::Routes) => model.hyper.experts.as_ref().map_or(1, |e| e.used as u64),
                };
                let (columns, rows) = (tensor.columns(), tensor.rows_per_matrix());
                weights += met * columns * rows;
                inputs += met * columns * columns / 2;
                outputs += met * rows * rows / 2;
            }
            (weights + inputs, 2 * weights + outputs)
        };
        let (forward, backward) = (0..model.hyper.layers).map(of_layer).unzip();
        Self { forward, backward, head: 2 * (model.vocab * model.hyper.hidden) as u64 }
    }

    /// All of it.
    pub(super) fn token(&self) -> u64 {
        self.head + self.forward.iter().chain(&self.backward).sum::<u64>()
    }
}
