//! Pruning of experts: those that the pass over the text chose are left, in a smaller model.

use std::collections::BTreeMap;
use std::sync::Arc;

use kquant_formats::gguf::Value;
use serde::Serialize;

use super::pruned::{Pruned, parameters, record_text, with_fishers};
use crate::context::Context;
use crate::model::{Model, ModelError};
use crate::prune::{Amount, ExpertChoice, ExpertScore, Experts, PruneError, PrunedExperts, experts_left};
use crate::statistics::Fishers;
use crate::text::Chunks;
use crate::transform::{ExpertsError, describe, keep_experts};

/// How experts are chosen.
#[derive(Debug, Clone, Copy)]
pub struct ExpertsRequest<'a> {
    /// How many are kept.
    pub amount: Amount,
    /// What they are chosen by.
    pub score: ExpertScore,
    /// Seed of the labels that the backward pass draws.
    pub seed: u64,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
}

/// The reason why experts cannot be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneExpertsError {
    /// The choice failed.
    #[error(transparent)]
    Choice(#[from] Box<PruneError>),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Experts cannot be taken out.
    #[error(transparent)]
    Experts(#[from] ExpertsError),
}

/// What was cut of the experts.
#[derive(Debug, Serialize)]
pub struct ExpertsReport {
    /// Number of experts of each layer before.
    pub experts_before: usize,
    /// Number of experts of each layer after.
    pub experts: usize,
    /// Weights before.
    pub parameters_before: u64,
    /// Weights after.
    pub parameters: u64,
    /// Sum of the layers' prices. By absence it is about the divergence in nats per token that was predicted layer by layer; by
    /// another score it is no divergence.
    pub price: f64,
    /// The choice in each layer that has experts.
    pub layers: Vec<ExpertChoice>,
}

/// Prunes experts of `model` as `request` says.
///
/// # Errors
/// [`PruneExpertsError`]; what cannot be is told of before the text is run.
pub fn prune_experts(
    model: &Model,
    request: &ExpertsRequest,
    run: &Context,
) -> Result<Pruned<ExpertsReport>, PruneExpertsError> {
    let ExpertsRequest { amount, score, seed, chunks, text_sha256 } = *request;
    let left = experts_left(model, amount).map_err(Box::new)? as usize;
    let seed = (score == ExpertScore::Absence).then_some(seed);
    let job = Experts { model, chunks, fishers: None, left, score };
    let pass = |fishers: Option<&Fishers>, run: &Context| -> Result<_, PruneExpertsError> {
        Ok(Experts { fishers, ..job }.run(run).map_err(Box::new)?)
    };
    let PrunedExperts { layers } = with_fishers((model, chunks), seed, run, job.work(), pass)?;
    let list = |choice: &ExpertChoice| -> (u32, Arc<[u32]>) {
        (choice.layer as u32, choice.kept.iter().map(|&expert| expert as u32).collect())
    };
    let lists: BTreeMap<u32, Arc<[u32]>> = layers.iter().map(list).collect();
    let input = model.converted();
    let mut smaller = keep_experts(input, &lists)?;
    let report = ExpertsReport {
        experts_before: model.hyper.experts.as_ref().map_or(0, |experts| experts.count),
        experts: left,
        parameters_before: parameters(input),
        parameters: parameters(&smaller),
        price: layers.iter().map(|layer| layer.price).sum(),
        layers,
    };
    describe(input, &mut smaller);
    let keys = &mut smaller.metadata;
    keys.set("kquant.pruned.experts", Value::U32(left as u32));
    keys.set("kquant.pruned.experts_before", Value::U32(report.experts_before as u32));
    record_text(keys, text_sha256);
    Ok(Pruned { model: smaller, report })
}
