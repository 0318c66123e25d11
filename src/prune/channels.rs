//! The pass over the layers.

use rayon::prelude::*;

use super::PruneError;
use super::layer::{Down, LayerChoice, Score, corrected, prune_layer};
use super::moments::Split;
use crate::context::Context;
use crate::graph::weight_name;
use crate::layerwise::{Halves, MeanMoments, Side, Streams};
use crate::model::stages::{BoundLinear, Stage, Stages, State};
use crate::model::{Model, ModelError};
use crate::statistics::Fishers;
use crate::tensor::{Stash, TensorName};
use crate::text::Chunks;
use kquant_kernels::block::by_name;

/// The settings of a pass that prunes channels of the feed-forward network.
pub struct Channels<'a> {
    /// The original model.
    pub model: &'a Model,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// The Fisher matrices of the outputs, over the same or another text; without them all outputs matter alike.
    pub fishers: Option<&'a Fishers>,
    /// Number of channels that are kept in each layer.
    pub width: usize,
    /// What channels are chosen by.
    pub score: Score,
    /// True if the other linear maps make up for what the layers before have lost as well.
    pub repair_others: bool,
}

/// The result of a pass.
pub struct PrunedChannels {
    /// The new `ffn_down`, in the source's shape with columns of zeros, with its bias where it has one, and what else has
    /// changed; all in f32.
    pub stash: Stash,
    /// The choices, by layer.
    pub layers: Vec<LayerChoice>,
}

/// Returns the number of channels of each layer's feed-forward network, which is the same for all.
///
/// # Errors
/// Fails when the layers differ, or are of a form that cannot be pruned.
pub fn channels(model: &Model) -> Result<u64, PruneError> {
    let tensors = &model.converted().tensors;
    if let Some(expert) = tensors.iter().find(|t| TensorName(&t.name).is_of_experts()) {
        return Err(PruneError::Experts { tensor: expert.name.clone() });
    }
    let mut first = None;
    for layer in 0..model.hyper.layers {
        let down = model.find(&weight_name(layer, "ffn_down")).ok_or(PruneError::NoFeedForward { layer })?;
        let first = *first.get_or_insert(down.columns());
        if first != down.columns() {
            return Err(PruneError::Widths { first, other: down.columns() });
        }
    }
    first.ok_or(PruneError::NoFeedForward { layer: 0 })
}

impl Channels<'_> {
    /// Chooses the channels of all layers.
    ///
    /// # Errors
    /// Fails when the model cannot be run or pruned, memory is too little, or the run is cancelled.
    pub fn run(&self, context: &Context) -> Result<PrunedChannels, PruneError> {
        channels(self.model)?;
        let stages = self.model.stages(self.chunks.context())?;
        let (_, tile) = stages.block_and_tile(context.memory / 8);
        let tiles = self.chunks.tokens().len().div_ceil(tile);
        let mut pass = ChannelPass {
            job: self,
            context,
            stages: &stages,
            streams: Streams::new(tiles, tile * stages.widest_state(), context.memory / 4)?,
            block: stages.block_and_tile(0).0,
            tile,
            stash: Stash::new(context.memory / 8),
            layers: Vec::new(),
            done: 0,
        };
        pass.embed()?;
        for layer in 0..self.model.hyper.layers {
            for stage in &stages.layers()[layer] {
                pass.advance(layer, stage)?;
            }
        }
        Ok(PrunedChannels { stash: pass.stash, layers: pass.layers })
    }

    /// Returns the units of work of [`run`](Self::run): tokens times the number of stages.
    pub fn work(&self) -> u64 {
        (self.chunks.tokens().len() * (self.model.groups() + self.model.hyper.layers)) as u64
    }
}

/// Means over the training tokens and over the held-out tokens.
type Means = (Option<MeanMoments>, Option<MeanMoments>);

struct ChannelPass<'a> {
    job: &'a Channels<'a>,
    context: &'a Context<'a>,
    stages: &'a Stages<'a>,
    streams: Streams,
    /// Number of tokens of a block of text.
    block: usize,
    /// Number of tokens of a tile.
    tile: usize,
    stash: Stash,
    layers: Vec<LayerChoice>,
    done: u64,
}

impl ChannelPass<'_> {
    fn embed(&mut self) -> Result<(), PruneError> {
        let (model, chunks) = (self.job.model, self.job.chunks);
        for (i, tokens) in chunks.tokens().chunks(self.tile).enumerate() {
            let row = |token, out: &mut [f32]| model.embedding_row(token, out);
            let rows = model.embed_by(tokens, 0, chunks.context(), row)?;
            self.streams.put(i, Side::Original, vec![rows.clone()])?;
            self.streams.put(i, Side::Quantized, vec![rows])?;
        }
        Ok(())
    }

    /// Takes both streams through a stage, and prunes or repairs the linear maps that follow.
    fn advance(&mut self, layer: usize, stage: &Stage) -> Result<(), PruneError> {
        let original = self.stages.bind(stage, None)?;
        let pruned = self.stages.bind(stage, Some(&self.stash))?;
        let group = stage.group.as_ref().filter(|group| group.by.is_none());
        let names = group.map(|group| self.stages.tensors(layer, group)).transpose()?.unwrap_or_default();
        let down = names.contains(&weight_name(layer, "ffn_down"));
        let observed = down || self.job.repair_others;
        let residual = group.filter(|group| group.residual && observed);
        let next = residual.map(|group| self.stages.linear(layer, group)).transpose()?;
        let biased = !names.is_empty() && names.iter().all(|name| self.bias(name).is_some());
        let mut halves = None;
        for tile in 0..self.streams.len() {
            if self.context.is_cancelled() {
                return Err(ModelError::Interrupted.into());
            }
            let first = tile * self.tile;
            let f = self.stages.run(&original, first, self.streams.take(tile, Side::Original)?)?;
            let q = self.stages.run(&pruned, first, self.streams.take(tile, Side::Quantized)?)?;
            if group.is_some() && observed {
                let lost = self.lost(stage, next.as_ref(), &f, &q)?;
                self.add(&mut halves, tile, (stage.input(&q)?, biased), &lost);
            }
            self.streams.put(tile, Side::Original, f)?;
            self.streams.put(tile, Side::Quantized, q)?;
            self.done += self.tokens(tile) as u64;
            self.context.progress.advance(self.done, &format!("layer {layer}"));
        }
        let Some(halves) = halves else { return Ok(()) };
        let means = halves.means();
        for name in &names {
            if down {
                self.prune(layer, name, &means, residual.is_none())?;
            } else {
                self.repair(name, &means, residual.is_none())?;
            }
        }
        Ok(())
    }

    /// Returns what the pruned stream has lost where the coming group reads, as differences of inputs or, where the
    /// group's output goes right into the stream, of outputs.
    fn lost(
        &self,
        stage: &Stage,
        next: Option<&BoundLinear>,
        f: &State,
        q: &State,
    ) -> Result<Vec<f32>, ModelError> {
        let lost = difference(stage.input(f)?, stage.input(q)?);
        let Some(next) = next else { return Ok(lost) };
        let mut lost = self.stages.multiply(next, &lost);
        let streams = stage.stream(f)?.par_iter().zip(stage.stream(q)?);
        let unit = 1.0 / self.stages.residual_scale();
        lost.par_iter_mut().zip(streams).for_each(|(lost, (f, q))| *lost += (f - q) * unit);
        Ok(lost)
    }

    /// Adds a tile's inputs, with a constant 1 as their last column if there is a bias, and its losses.
    fn add(&self, halves: &mut Option<Halves>, tile: usize, (x, biased): (&[f32], bool), lost: &[f32]) {
        let tokens = self.tokens(tile);
        let columns = x.len() / tokens;
        let with_one: Vec<f32>;
        let x = if biased {
            with_one = x.chunks_exact(columns).flat_map(|x| x.iter().copied().chain([1.0])).collect();
            &with_one
        } else {
            x
        };
        let halves = halves.get_or_insert_with(|| Halves::new(x.len() / tokens, lost.len() / tokens));
        halves.add((tile * self.tile, self.job.chunks.tokens().len()), self.block, x, lost);
    }

    fn prune(&mut self, layer: usize, name: &str, means: &Means, of_inputs: bool) -> Result<(), PruneError> {
        let job = self.job;
        let down = self.weight(name)?;
        let inputs = |what| PruneError::Inputs { tensor: name.to_owned(), what };
        let split = Split::new(means, &down.weight, down.n, of_inputs).ok_or_else(|| inputs("none"))?;
        let fisher = job.fishers.map(|fishers| fishers.get(name)).transpose()?.flatten();
        let fisher: Option<Vec<f64>> = fisher.map(|f| f.mean.into_iter().map(f64::from).collect());
        let pruned = prune_layer(&down, split, fisher.as_deref(), (job.score, job.width));
        let (choice, new) = pruned.ok_or_else(|| inputs("always zero or not finite"))?;
        self.layers.push(LayerChoice { layer, ..choice });
        self.keep(name, &down, &new)
    }

    /// Moves the weight `name` towards the original's outputs; a weight whose inputs are always zero stays as it is.
    fn repair(&mut self, name: &str, means: &Means, of_inputs: bool) -> Result<(), PruneError> {
        let whole = self.weight(name)?;
        // Where some weights of a group have a bias and some do not, the inputs have no constant column.
        if means.0.as_ref().is_some_and(|train| train.hessian.columns != whole.n) {
            return Ok(());
        }
        let split = Split::new(means, &whole.weight, whole.n, of_inputs);
        match split.and_then(|split| corrected(&whole, &split)) {
            Some((new, share)) if share > 0.0 => self.keep(name, &whole, &new),
            _ => Ok(()),
        }
    }

    /// Returns the GGUF name of the bias of the weight `name`, if it has one.
    fn bias(&self, name: &str) -> Option<String> {
        let bias = name.strip_suffix("weight").map(|stem| format!("{stem}bias"))?;
        self.job.model.find(&bias).is_some().then_some(bias)
    }

    /// Reads the weight `name`, with its bias as the last column if it has one.
    fn weight(&self, name: &str) -> Result<Down, PruneError> {
        let model = self.job.model;
        let missing = || ModelError::Tensor { tensor: name.to_owned(), what: "is missing".into() };
        let tensor = model.find(name).ok_or_else(missing)?;
        let channels = tensor.columns() as usize;
        let weight = model.values(tensor)?;
        let Some(bias) = self.bias(name).and_then(|bias| model.find(&bias)) else {
            return Ok(Down { weight: weight.into_iter().map(f64::from).collect(), n: channels, channels });
        };
        let bias = model.values(bias)?;
        let rows = weight.chunks_exact(channels).zip(bias);
        let weight = rows.flat_map(|(row, bias)| row.iter().copied().chain([bias]).map(f64::from)).collect();
        Ok(Down { weight, n: channels + 1, channels })
    }

    /// Keeps the new weight `[rows][n]` as what stands in for `name` and for its bias.
    fn keep(&mut self, name: &str, down: &Down, new: &[f64]) -> Result<(), PruneError> {
        let bytes = |values: &mut dyn Iterator<Item = f64>| -> Vec<u8> {
            values.flat_map(|v| (v as f32).to_le_bytes()).collect()
        };
        let f32_type = by_name("F32")
            .ok_or_else(|| ModelError::Tensor { tensor: name.to_owned(), what: "F32".into() })?;
        let rows = new.chunks_exact(down.n);
        let weight = bytes(&mut rows.clone().flat_map(|row| &row[..down.channels]).copied());
        self.stash.insert(name, f32_type, down.channels, weight)?;
        if let Some(bias) = self.bias(name) {
            let count = rows.len();
            self.stash.insert(&bias, f32_type, count, bytes(&mut rows.map(|row| row[down.channels])))?;
        }
        Ok(())
    }

    fn tokens(&self, tile: usize) -> usize {
        (self.job.chunks.tokens().len() - tile * self.tile).min(self.tile)
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.par_iter().zip(b).map(|(a, b)| a - b).collect()
}
