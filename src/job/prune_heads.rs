//! Pruning of attention heads, whole groups of query heads with their key-value head: what the pass over the text chose, as a smaller model.

use std::sync::Arc;

use kquant_formats::gguf::Value;
use serde::Serialize;

use super::prune_channels::{Chosen, PruneChannelsError};
use super::pruned::{Pruned, parameters, record_text};
use crate::context::Context;
use crate::model::Model;
use crate::prune::{Columns, LayerChoice, PrunedChannels, Score, head_groups_left};
use crate::text::Chunks;
use crate::transform::{describe, keep_heads};

/// How heads are chosen.
#[derive(Debug, Clone, Copy)]
pub struct HeadsRequest<'a> {
    /// How many key-value heads are cut of each layer.
    pub cut: usize,
    /// What they are chosen by.
    pub score: Score,
    /// Seed of the labels that the backward pass draws.
    pub seed: u64,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
}

/// What was cut of the heads.
#[derive(Debug, Serialize)]
pub struct HeadsReport {
    /// Key-value heads of each layer before.
    pub kv_heads_before: usize,
    /// Key-value heads of each layer after.
    pub kv_heads: usize,
    /// Query heads of each key-value head.
    pub heads_of_each: usize,
    /// Weights before.
    pub parameters_before: u64,
    /// Weights after.
    pub parameters: u64,
    /// Sum of the layers' prices. By the second-order score it is the divergence in nats per token that was predicted layer by layer;
    /// by another score it is no divergence.
    pub price: f64,
    /// The choice in each layer, as numbers of key-value heads.
    pub layers: Vec<LayerChoice>,
}

/// Prunes heads of `model` as `request` says.
///
/// # Errors
/// [`PruneChannelsError`]; what cannot be is told of before the text is run.
pub fn prune_heads(
    model: &Model,
    request: &HeadsRequest,
    run: &Context,
) -> Result<Pruned<HeadsReport>, PruneChannelsError> {
    let left = head_groups_left(model, request.cut).map_err(Box::new)?;
    let block = Columns::HeadGroups.block(model);
    let how = Chosen { score: request.score, seed: request.seed, chunks: request.chunks };
    let PrunedChannels { stash, layers } = how.columns(model, Columns::HeadGroups, left * block, run)?;
    let of_groups = |choice: LayerChoice| {
        let kept = choice.kept.iter().step_by(block).map(|column| column / block).collect();
        LayerChoice { kept, ..choice }
    };
    let layers: Vec<LayerChoice> = layers.into_iter().map(of_groups).collect();
    let lists: Vec<Arc<[u32]>> =
        layers.iter().map(|layer| layer.kept.iter().map(|&group| group as u32).collect()).collect();
    let input = model.converted();
    let mut smaller = keep_heads(input, &lists, &Arc::new(stash))?;
    let hyper = &model.hyper;
    let report = HeadsReport {
        kv_heads_before: hyper.kv_heads,
        kv_heads: left,
        heads_of_each: hyper.heads / hyper.kv_heads,
        parameters_before: parameters(input),
        parameters: parameters(&smaller),
        price: layers.iter().map(|layer| layer.price).sum(),
        layers,
    };
    describe(input, &mut smaller);
    let keys = &mut smaller.metadata;
    keys.set("kquant.pruned.kv_heads", Value::U32(left as u32));
    keys.set("kquant.pruned.kv_heads_before", Value::U32(hyper.kv_heads as u32));
    record_text(keys, request.text_sha256);
    Ok(Pruned { model: smaller, report })
}
