//! Pruning of the feed-forward network's channels: what the pass over the text chose, as a smaller model.

use std::sync::Arc;

use kquant_formats::gguf::Value;
use serde::Serialize;

use super::pruned::{Pruned, parameters, record_text, with_fishers};
use crate::context::Context;
use crate::model::{Model, ModelError};
use crate::prune::{Amount, Channels, Columns, LayerChoice, PrunedChannels, Score, channels};
use crate::statistics::Fishers;
use crate::text::Chunks;
use crate::transform::{HeadsError, NarrowError, describe, narrow};

/// How channels are chosen.
#[derive(Debug, Clone, Copy)]
pub struct ChannelsRequest<'a> {
    /// How many are kept.
    pub width: Amount,
    /// What they are chosen by.
    pub score: Score,
    /// Seed of the labels that the backward pass draws.
    pub seed: u64,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
}

/// The reason why channels or heads cannot be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneChannelsError {
    /// The choice failed.
    #[error(transparent)]
    Choice(#[from] Box<crate::prune::PruneError>),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model cannot be made narrower.
    #[error(transparent)]
    Narrow(#[from] NarrowError),
    /// Heads cannot be taken out of the model.
    #[error(transparent)]
    Heads(#[from] HeadsError),
}

/// What was cut.
#[derive(Debug, Serialize)]
pub struct ChannelsReport {
    /// Channels of each layer before.
    pub channels_before: u64,
    /// Channels of each layer after.
    pub channels: u64,
    /// Weights before.
    pub parameters_before: u64,
    /// Weights after.
    pub parameters: u64,
    /// Sum of the layers' prices. By the second-order score it is the divergence in nats per token that was predicted layer by layer;
    /// by another score it is no divergence.
    pub price: f64,
    /// The choice in each layer.
    pub layers: Vec<LayerChoice>,
}

/// How columns are chosen, of channels or of heads.
pub(super) struct Chosen<'a> {
    pub score: Score,
    /// Seed of the labels that the backward pass draws.
    pub seed: u64,
    pub chunks: &'a Chunks,
}

impl Chosen<'_> {
    /// Chooses the `width` columns that are kept in each layer.
    pub(super) fn columns(
        &self,
        model: &Model,
        columns: Columns,
        width: usize,
        run: &Context,
    ) -> Result<PrunedChannels, PruneChannelsError> {
        let Self { score, seed, chunks } = *self;
        let seed = (score == Score::SecondOrder).then_some(seed);
        let job = Channels { model, chunks, fishers: None, columns, width, score };
        let pass = |fishers: Option<&Fishers>, run: &Context| -> Result<_, PruneChannelsError> {
            Ok(Channels { fishers, ..job }.run(run).map_err(Box::new)?)
        };
        with_fishers((model, chunks), seed, run, job.work(), pass)
    }
}

/// Returns the number of channels that `width` keeps in each layer of `model`; reads no tensor data.
///
/// # Errors
/// Fails when the model has no channels that can be pruned, or the width cannot be.
pub fn kept_channels(model: &Model, width: Amount) -> Result<u64, PruneChannelsError> {
    Ok(channels(model).and_then(|all| width.kept(all)).map_err(Box::new)?)
}

/// Prunes channels of `model` as `request` says.
///
/// # Errors
/// [`PruneChannelsError`]; what cannot be is told of before the text is run.
pub fn prune_channels(
    model: &Model,
    request: &ChannelsRequest,
    run: &Context,
) -> Result<Pruned<ChannelsReport>, PruneChannelsError> {
    let kept = kept_channels(model, request.width)?;
    let chunks = request.chunks;
    let how = Chosen { score: request.score, seed: request.seed, chunks };
    let PrunedChannels { stash, layers } = how.columns(model, Columns::Channels, kept as usize, run)?;
    let lists: Vec<Arc<[u32]>> =
        layers.iter().map(|layer| layer.kept.iter().map(|&channel| channel as u32).collect()).collect();
    let input = model.converted();
    let mut narrowed = narrow(input, &lists, &Arc::new(stash))?;
    let report = ChannelsReport {
        channels_before: channels(model).map_err(Box::new)?,
        channels: kept,
        parameters_before: parameters(input),
        parameters: parameters(&narrowed),
        price: layers.iter().map(|layer| layer.price).sum(),
        layers,
    };
    describe(input, &mut narrowed);
    let keys = &mut narrowed.metadata;
    keys.set("kquant.pruned.ffn", Value::U32(kept as u32));
    keys.set("kquant.pruned.ffn_before", Value::U32(report.channels_before as u32));
    record_text(keys, request.text_sha256);
    Ok(Pruned { model: narrowed, report })
}
