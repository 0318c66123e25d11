//! The choice of the layers that are cut, and weights that make up for them.
//!
//! | file | what |
//! |---|---|
//! | `sweep` | the divergence that the absence of each run of neighbouring layers costs; all share the layers before |
//! | `influence` | how much each layer turns the stream, which is ShortGPT's score |
//! | `bridge` | the output projections that are left, moved by least squares |

mod bridge;
mod influence;
mod sweep;

use serde::Serialize;

use super::PruneError;
use super::channels::{DOWN, group_bytes};
use crate::context::{Context, Unit};
use crate::graph::weight_name;
use crate::model::stages::{BoundStage, Stages, State};
use crate::model::{Model, ModelError};
use crate::tensor::{Replaced, Stash};
use crate::text::Chunks;
use crate::transform::{check_layers, period};

use bridge::Bridge;
pub(super) use bridge::with_one;
use sweep::Sweep;

/// Number of tokens of a sample on which divergences are measured.
const SAMPLE: usize = 1 << 14;

/// What layers are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerScore {
    /// The KL divergence of the model without them, one run of layers after the other.
    Divergence,
    /// How little they turn the stream (Men et al., ShortGPT, 2024); nothing is made up for.
    Influence,
}

/// The settings of a choice of layers.
pub struct Layers<'a> {
    /// The original model.
    pub model: &'a Model,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// Number of layers to cut.
    pub cut: usize,
    /// What they are chosen by.
    pub score: LayerScore,
}

/// Neighbouring layers that can be cut together, and what that costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerCost {
    /// Number of the first layer.
    pub first: u32,
    /// Number of layers.
    pub count: usize,
    /// KL divergence of the model without these layers alone on a sample of the text, in nats per token; `None` if the choice was
    /// not by it.
    pub kl: Option<f64>,
    /// Sum over the layers of `1 - cos` of the streams before and after the layer, a mean over the tokens (ShortGPT's block influence).
    pub influence: f64,
}

/// What weights that make up for the layers are worth on text that they were not made by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MadeUp {
    /// KL divergence on the held-out part of the text with the weights as they were, in nats per token.
    pub kl_before: f64,
    /// The same with weights moved by least squares.
    pub kl: f64,
}

/// The result of a choice of layers.
pub struct PrunedLayers {
    /// Numbers of the layers that are kept.
    pub kept: Vec<u32>,
    /// Weights that make up for the others, under the names that their tensors have in the original, in f32; `None` if they do not
    /// help.
    pub stash: Option<Stash>,
    /// The cost of each run of layers that could be cut.
    pub costs: Vec<LayerCost>,
    /// What the weights are worth; `None` if the text is too short to say, or none were made.
    pub made_up: Option<MadeUp>,
}

/// Returns the number of neighbouring layers that are cut together.
///
/// # Errors
/// Fails when `cut` layers cannot be cut from the family.
pub fn layers_at_a_time(model: &Model, cut: usize) -> Result<usize, PruneError> {
    let (layers, period) = (model.hyper.layers, period(model.converted())?);
    if cut == 0 || cut >= layers || !cut.is_multiple_of(period) {
        let family = model.hyper.architecture.clone();
        return Err(PruneError::LayerCount { cut, layers, family, period });
    }
    Ok(period)
}

impl Layers<'_> {
    /// Chooses the layers, and makes up for them.
    ///
    /// # Errors
    /// Fails when so many layers cannot be cut, the model cannot be run, memory is too little, or the run is cancelled.
    pub fn run(&self, context: &Context) -> Result<PrunedLayers, PruneError> {
        let at_a_time = layers_at_a_time(self.model, self.cut)?;
        self.check_memory(context.memory)?;
        let sample = sample(self.chunks);
        let all: Vec<u32> = (0..self.model.hyper.layers as u32).collect();
        context.progress.begin(self.work(at_a_time, &sample), Unit::Work);
        let influences = influence::influences(self.model, &sample, context)?;
        let mut done = (sample.tokens().len() * all.len()) as u64;
        let cost = |first: usize, kl| LayerCost {
            first: all[first],
            count: at_a_time,
            kl,
            influence: influences[first..first + at_a_time].iter().sum(),
        };
        let mut kept = all.clone();
        let mut costs = Vec::new();
        let sweep = Sweep { model: self.model, chunks: &sample, context, replaced: None };
        while kept.len() > all.len() - self.cut {
            let places = self.places(&kept, at_a_time);
            let scores = match self.score {
                LayerScore::Divergence => sweep.divergences(&kept, &places, at_a_time, &mut done)?,
                LayerScore::Influence => {
                    let of =
                        |&at: &usize| kept[at..at + at_a_time].iter().map(|&l| influences[l as usize]).sum();
                    places.iter().map(of).collect()
                }
            };
            if costs.is_empty() {
                let kl = |score| (self.score == LayerScore::Divergence).then_some(score);
                costs = places.iter().zip(&scores).map(|(&at, &score)| cost(at, kl(score))).collect();
            }
            let least = places.iter().zip(&scores).min_by(|a, b| a.1.total_cmp(b.1));
            let Some((&at, _)) = least else { break };
            kept.drain(at..at + at_a_time);
        }
        let (stash, made_up) = match self.score {
            LayerScore::Divergence => self.made_up(&kept, context, &mut done)?,
            LayerScore::Influence => (None, None),
        };
        Ok(PrunedLayers { kept, stash, costs, made_up })
    }

    /// Returns an error if the least squares of a layer do not fit `memory` bytes with a half for streams and buffers.
    fn check_memory(&self, memory: u64) -> Result<(), PruneError> {
        if self.score == LayerScore::Influence {
            return Ok(());
        }
        let needed = |layer: usize| {
            let down = self.model.find(&weight_name(layer, DOWN))?;
            Some((2 * group_bytes(down.columns() + 1, down.rows(), true), layer))
        };
        match (0..self.model.hyper.layers).filter_map(needed).max() {
            Some((needed, layer)) if needed > memory => Err(PruneError::Memory { layer, needed }),
            _ => Ok(()),
        }
    }

    /// Returns where in `kept` runs of layers begin that can be cut.
    fn places(&self, kept: &[u32], at_a_time: usize) -> Vec<usize> {
        let can_go = |&at: &usize| {
            let rest = [&kept[..at], &kept[at + at_a_time..]].concat();
            check_layers(self.model.converted(), &rest).is_ok()
        };
        (0..=kept.len() - at_a_time).filter(can_go).collect()
    }

    /// Makes up for the layers that are not `kept`, and drops what held-out text says does not help.
    fn made_up(
        &self,
        kept: &[u32],
        context: &Context,
        done: &mut u64,
    ) -> Result<(Option<Stash>, Option<MadeUp>), PruneError> {
        let (_, held_out) = self.chunks.held_out();
        if held_out.is_empty() {
            return Ok((None, None));
        }
        let sample = sample(&self.chunks.of(&held_out));
        let stash = Bridge { model: self.model, chunks: self.chunks, kept, context }.run(done)?;
        let sweep = Sweep { model: self.model, chunks: &sample, context, replaced: None };
        let kl_before = sweep.divergence(kept, done)?;
        let kl = Sweep { replaced: Some(&stash), ..sweep }.divergence(kept, done)?;
        let stash = (kl < kl_before).then_some(stash);
        Ok((stash, Some(MadeUp { kl_before, kl })))
    }

    /// Returns the units of work: tokens times layers.
    fn work(&self, at_a_time: usize, sample: &Chunks) -> u64 {
        let layers = self.model.hyper.layers;
        let tokens = |chunks: &Chunks, layers: usize| (chunks.tokens().len() * layers) as u64;
        let first = tokens(sample, layers);
        if self.score == LayerScore::Influence {
            return first;
        }
        let rounds = (0..self.cut / at_a_time).map(|round| {
            let left = layers - round * at_a_time;
            tokens(sample, layers + sweep::layers_run(left, left - at_a_time + 1, at_a_time))
        });
        let (_, held_out) = self.chunks.held_out();
        let held_out = match held_out.is_empty() {
            true => 0,
            false => tokens(&self::sample(&self.chunks.of(&held_out)), 4 * layers),
        };
        first + rounds.sum::<u64>() + tokens(self.chunks, 2 * layers) + held_out
    }
}

/// Returns the chunks of a sample, evenly spread over `chunks`.
fn sample(chunks: &Chunks) -> Chunks {
    chunks.spread((SAMPLE / chunks.context()).max(1))
}

/// The operations of a whole layer with their weights.
struct BoundLayer<'s>(Vec<BoundStage<'s>>);

impl<'s> BoundLayer<'s> {
    fn new(stages: &'s Stages, layer: u32, replaced: Option<&Stash>) -> Result<Self, ModelError> {
        let bind = |stage| stages.bind(stage, replaced.map(|stash| stash as &dyn Replaced));
        Ok(Self(stages.layers()[layer as usize].iter().map(bind).collect::<Result<_, _>>()?))
    }

    /// Runs the layer on the `stream` `[tokens][hidden]` of whole chunks from token `first` on.
    fn run(&self, stages: &Stages, first: usize, stream: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        let mut state: State = vec![stream];
        for stage in &self.0 {
            state = stages.run(stage, first, state)?;
        }
        Ok(state.concat())
    }
}

/// Returns rows of the embedding for `tokens`, whole chunks of `context` tokens.
fn embedded(model: &Model, tokens: &[u32], context: usize) -> Result<Vec<f32>, ModelError> {
    model.embed_by(tokens, 0, context, |token, out: &mut [f32]| model.embedding_row(token, out))
}
