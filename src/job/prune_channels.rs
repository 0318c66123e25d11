//! Pruning of the feed-forward network's channels: what the pass over the text chose, as a smaller model.

use std::sync::Arc;

use kquant_formats::gguf::Value;
use serde::Serialize;

use crate::context::{After, Context, Unit};
use crate::convert::Converted;
use crate::model::{Model, ModelError};
use crate::prune::{Channels, LayerChoice, PrunedChannels, Score, Width, channels};
use crate::statistics::Fishers;
use crate::text::Chunks;
use crate::transform::{NarrowError, describe, narrow};

/// How channels are chosen.
#[derive(Debug, Clone, Copy)]
pub struct ChannelsRequest<'a> {
    /// How many are kept.
    pub width: Width,
    /// What they are chosen by.
    pub score: Score,
    /// Seed of the labels that the backward pass draws.
    pub seed: u64,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
}

/// The reason why channels cannot be pruned.
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
}

/// A narrower model and what was chosen.
pub struct Narrowed {
    /// The model.
    pub model: Converted,
    /// The numbers.
    pub report: ChannelsReport,
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

/// Returns the number of channels that `width` keeps in each layer of `model`; reads no tensor data.
///
/// # Errors
/// Fails when the model has no channels that can be pruned, or the width cannot be.
pub fn kept_channels(model: &Model, width: Width) -> Result<u64, PruneChannelsError> {
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
) -> Result<Narrowed, PruneChannelsError> {
    let kept = kept_channels(model, request.width)?;
    let chunks = request.chunks;
    let by_fishers = request.score == Score::SecondOrder;
    let before = if by_fishers { Fishers::work(model, chunks) } else { 0 };
    let job = |fishers| Channels { model, chunks, fishers, width: kept as usize, score: request.score };
    run.progress.begin(before + job(None).work(), Unit::Work);
    let collect = || Fishers::collect(model, chunks, run.memory / 2, request.seed, run.cancel, run.progress);
    let fishers = by_fishers.then(collect).transpose()?;
    let progress = After { before, whole: run.progress };
    let left = if by_fishers { run.memory - run.memory / 4 } else { run.memory };
    let pass = Context { memory: left, progress: &progress, ..*run };
    let PrunedChannels { stash, layers } = job(fishers.as_ref()).run(&pass).map_err(Box::new)?;
    let lists: Vec<Arc<[u32]>> =
        layers.iter().map(|layer| layer.kept.iter().map(|&channel| channel as u32).collect()).collect();
    let input = model.converted();
    let mut narrowed = narrow(input, &lists, &Arc::new(stash))?;
    let count = |model: &Converted| model.tensors.iter().map(|t| t.weights()).sum();
    let report = ChannelsReport {
        channels_before: channels(model).map_err(Box::new)?,
        channels: kept,
        parameters_before: count(input),
        parameters: count(&narrowed),
        price: layers.iter().map(|layer| layer.price).sum(),
        layers,
    };
    describe(input, &mut narrowed);
    let keys = &mut narrowed.metadata;
    keys.set("kquant.pruned.ffn", Value::U32(kept as u32));
    keys.set("kquant.pruned.ffn_before", Value::U32(report.channels_before as u32));
    keys.set("kquant.pruned.text.sha256", Value::String(request.text_sha256.to_owned()));
    Ok(Narrowed { model: narrowed, report })
}
