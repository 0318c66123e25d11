//! Estimates of the work of a backward pass, for the progress shown.

use super::super::Model;

/// Approximate numbers of multiplications and additions per token.
pub(super) struct TokenWork {
    /// Work of each layer's forward pass, and of the outer products of the inputs of its linear maps.
    pub forward: Vec<u64>,
    /// Work of the output projection in both directions.
    pub head: u64,
    /// Work of each layer's backward pass, and of the outer products of the gradients.
    pub backward: Vec<u64>,
}

impl TokenWork {
    pub(super) fn of(model: &Model) -> Self {
        Self {
            forward: model.work.iter().map(|work| work.products + work.inputs).collect(),
            head: 2 * (model.vocab * model.hyper.hidden) as u64,
            backward: model.work.iter().map(|work| 2 * work.products + work.outputs).collect(),
        }
    }

    /// Returns the work per token in the whole pass.
    pub(super) fn token(&self) -> u64 {
        self.head + self.forward.iter().chain(&self.backward).sum::<u64>()
    }
}
