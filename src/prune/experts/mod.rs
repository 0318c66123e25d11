//! The choice of the experts that are kept.
//!
//! | file | what |
//! |---|---|
//! | `pass` | the layers one after the other, with the stream of the original and that of the model pruned so far |
//! | `layer` | what a layer gives without some experts |
//! | `cost` | the cost of the absence of sets of experts, and the cheapest set |

mod cost;
mod layer;
mod pass;

use serde::Serialize;

use super::{Amount, PruneError};
use crate::context::Context;
use crate::model::Model;
use crate::statistics::Fishers;
use crate::text::Chunks;

/// What experts are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertScore {
    /// What their absence costs: the change of the layer's output, where tokens are routed among those that are left, by the Fisher
    /// matrix of that output.
    Absence,
    /// The mean over the tokens routed to them of their weight times the norm of their output (Lasby et al., REAP, 2025).
    Reap,
}

/// The settings of a pass that chooses experts.
#[derive(Clone, Copy)]
pub struct Experts<'a> {
    /// The original model.
    pub model: &'a Model,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// The Fisher matrices of the outputs, over the same or another text; without them all outputs matter alike.
    pub fishers: Option<&'a Fishers>,
    /// Number of experts that are kept in each layer.
    pub left: usize,
    /// What experts are chosen by.
    pub score: ExpertScore,
}

/// The choice of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpertChoice {
    /// Number of the layer.
    pub layer: usize,
    /// Experts that are kept, in order.
    pub kept: Vec<usize>,
    /// What those that are cut cost by the score; with [`ExpertScore::Absence`] about a KL divergence in nats per token.
    pub price: f64,
}

/// The result of a pass: the choices, by layer, where layers without experts are left out.
pub struct PrunedExperts {
    /// The choices.
    pub layers: Vec<ExpertChoice>,
}

/// Returns the number of experts that `amount` keeps in each layer of `model`; reads no tensor data.
///
/// # Errors
/// Fails when the model has no experts, or so many cannot be kept.
pub fn experts_left(model: &Model, amount: Amount) -> Result<u64, PruneError> {
    let experts = model.hyper.experts.as_ref().ok_or(PruneError::NoExperts)?;
    let (groups, chosen) = experts.groups.unwrap_or((1, 1));
    // So many experts are left for a token in the groups that are chosen for it.
    let least = experts.used.div_ceil(chosen) * groups;
    amount.experts(experts.count as u64, groups as u64, least as u64)
}

impl Experts<'_> {
    /// Chooses the experts of all layers.
    ///
    /// # Errors
    /// Fails when so many cannot be kept, the model cannot be run, or the run is cancelled.
    pub fn run(&self, context: &Context) -> Result<PrunedExperts, PruneError> {
        experts_left(self.model, Amount::Number(self.left as u64))?;
        // The Fisher matrix in f32 and f64, and what the experts of a layer lose together, beside streams and buffers.
        let (hidden, experts) = (self.model.hyper.hidden as u64, self.model.hyper.experts.as_ref());
        let needed = 2 * (12 * hidden * hidden + 8 * experts.map_or(0, |e| e.count as u64).pow(2));
        if needed > context.memory {
            return Err(PruneError::Memory { layer: 0, needed });
        }
        pass::run(self, context)
    }

    /// Returns the units of work of [`run`](Self::run): tokens times layers.
    pub fn work(&self) -> u64 {
        (self.chunks.tokens().len() * self.model.hyper.layers) as u64
    }
}

/// Logits of all tokens of `chunks` by `model` whose tokens are routed among the experts that are kept.
#[cfg(test)]
pub(super) fn logits_without(model: &Model, pruned: &PrunedExperts, chunks: &Chunks) -> crate::model::Logits {
    let stages = model.stages(chunks.context()).unwrap();
    let row = |token, out: &mut [f32]| model.embedding_row(token, out);
    let mut state = vec![model.embed_by(chunks.tokens(), 0, chunks.context(), row).unwrap()];
    let through = |state, stages_of: &[crate::model::stages::Stage]| {
        stages_of
            .iter()
            .fold(state, |state, stage| stages.run(&stages.bind(stage, None).unwrap(), 0, state).unwrap())
    };
    for (number, layer) in stages.layers().iter().enumerate() {
        let choice = pruned.layers.iter().find(|choice| choice.layer == number);
        state = match layer::Mixture::read(&stages, layer).unwrap().zip(choice) {
            None => through(state, layer),
            Some(((before, mixture), choice)) => {
                let absent: Vec<bool> =
                    (0..mixture.counts().0).map(|expert| !choice.kept.contains(&expert)).collect();
                let tokens = mixture.tokens(0, through(state, &layer[..before])).unwrap();
                vec![mixture.without(&tokens, &absent).unwrap()]
            }
        };
    }
    let head = model.head(u64::MAX).unwrap();
    head.logits(&head.normed(&state.concat())).unwrap()
}
