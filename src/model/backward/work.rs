//! How much there is to do, for the progress shown.

use super::super::Model;

/// Multiplications and additions on one token, about.
pub(super) struct TokenWork {
    /// The forward pass of each layer, and the outer products of what enters its linear maps.
    pub forward: Vec<u64>,
    /// The output projection, forward and back.
    pub head: u64,
    /// The backward pass of each layer, and the outer products of the gradients.
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

    /// Work on one token in the whole pass.
    pub(super) fn token(&self) -> u64 {
        self.head + self.forward.iter().chain(&self.backward).sum::<u64>()
    }
}
