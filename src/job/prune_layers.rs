//! Pruning of layers: those that are named, or those whose absence costs least on a text.

use std::sync::Arc;

use kquant_formats::gguf::{Array, Metadata, Value};
use serde::Serialize;

use super::pruned::{Pruned, parameters, record_text};
use crate::context::Context;
use crate::convert::Converted;
use crate::model::Model;
use crate::prune::{LayerCost, LayerScore, Layers, MadeUp, PruneError, PrunedLayers};
use crate::text::Chunks;
use crate::transform::{LayersError, changed, describe, keep_layers, without};

/// The key of the numbers that the layers that were cut had in the original.
const CUT: &str = "kquant.pruned.layers";

/// How layers are chosen.
#[derive(Debug, Clone, Copy)]
pub struct LayersRequest<'a> {
    /// How many are cut.
    pub cut: usize,
    /// What they are chosen by.
    pub score: LayerScore,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
}

/// The reason why layers cannot be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneLayersError {
    /// The choice failed.
    #[error(transparent)]
    Choice(#[from] Box<PruneError>),
    /// Layers cannot be taken out.
    #[error(transparent)]
    Layers(#[from] LayersError),
}

/// What was cut of the layers.
#[derive(Debug, Serialize)]
pub struct LayersReport {
    /// Number of layers before.
    pub layers_before: usize,
    /// Number of layers after.
    pub layers: usize,
    /// Numbers of the layers that were cut.
    pub cut: Vec<u32>,
    /// Weights before.
    pub parameters_before: u64,
    /// Weights after.
    pub parameters: u64,
    /// What each run of layers costs that could have been cut, where there was a choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<LayerCost>,
    /// What weights are worth that make up for the layers; they were taken if their divergence is the lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_up: Option<MadeUp>,
}

/// Cuts the layers `cut` of `input`, whose other weights stay as they are.
///
/// # Errors
/// [`LayersError`], when a layer does not exist or the family's layers do not allow it.
pub fn drop_layers(input: &Converted, cut: &[u32]) -> Result<Pruned<LayersReport>, LayersError> {
    of_kept(input, input, &without(input, cut)?)
}

/// Cuts layers of `model` as `request` says.
///
/// # Errors
/// [`PruneLayersError`]; what cannot be is told of before the text is run.
pub fn prune_layers(
    model: &Model,
    request: &LayersRequest,
    run: &Context,
) -> Result<Pruned<LayersReport>, PruneLayersError> {
    let LayersRequest { cut, score, chunks, text_sha256 } = *request;
    let PrunedLayers { kept, stash, costs, made_up } =
        Layers { model, chunks, cut, score }.run(run).map_err(Box::new)?;
    let input = model.converted();
    let moved = stash.map(|stash| changed(input, &Arc::new(stash)));
    let mut pruned = of_kept(input, moved.as_ref().unwrap_or(input), &kept)?;
    let keys = &mut pruned.model.metadata;
    record_text(keys, text_sha256);
    if let Some(made_up) = made_up {
        keys.set("kquant.pruned.kl", Value::F64(made_up.kl.min(made_up.kl_before)));
    }
    pruned.report = LayersReport { costs, made_up, ..pruned.report };
    Ok(pruned)
}

/// Returns the layers `kept` of `moved`, which has the shapes of `input`.
fn of_kept(input: &Converted, moved: &Converted, kept: &[u32]) -> Result<Pruned<LayersReport>, LayersError> {
    let mut model = keep_layers(moved, kept)?;
    describe(input, &mut model);
    let cut = without(input, kept)?;
    let all = with_earlier(&input.metadata, &cut);
    model.metadata.set(CUT, Value::Array(Array::U32(all)));
    let report = LayersReport {
        layers_before: kept.len() + cut.len(),
        layers: kept.len(),
        cut,
        parameters_before: parameters(input),
        parameters: parameters(&model),
        costs: Vec::new(),
        made_up: None,
    };
    Ok(Pruned { model, report })
}

/// Returns the layers that `metadata` say were cut before and those of `cut`, which are numbers of what was left then, all by their
/// numbers in the original.
fn with_earlier(metadata: &Metadata, cut: &[u32]) -> Vec<u32> {
    let earlier = match metadata.get(CUT) {
        Some(Value::Array(Array::U32(earlier))) => earlier.clone(),
        _ => Vec::new(),
    };
    let left = (0..).filter(|layer| !earlier.contains(layer));
    let now = left.zip(0..=cut.iter().copied().max().unwrap_or(0)).filter(|(_, number)| cut.contains(number));
    let mut all: Vec<u32> = earlier.iter().copied().chain(now.map(|(layer, _)| layer)).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_keep_their_numbers_when_more_are_cut() {
        let mut metadata = Metadata::new();
        assert_eq!(with_earlier(&metadata, &[0, 3]), [0, 3]);
        metadata.set(CUT, Value::Array(Array::U32(vec![0, 3])));
        // What is left are layers 1, 2, 4, 5.
        assert_eq!(with_earlier(&metadata, &[0, 2]), [0, 1, 3, 4]);
    }
}
