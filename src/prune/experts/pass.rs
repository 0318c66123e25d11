//! The pass over the layers: which experts each of them keeps.

use super::cost::Costs;
use super::layer::Mixture;
use super::{ExpertChoice, ExpertScore, Experts, PruneError, PrunedExperts};
use crate::context::Context;
use crate::graph::weight_name;
use crate::layerwise::{Side, Streams};
use crate::model::ModelError;
use crate::model::stages::{Stage, Stages, State};

/// The most rounds in which the experts of a layer are cut, each with the costs that those cut before leave.
const ROUNDS: usize = 4;

/// The state of a pass.
struct Pass<'a> {
    job: &'a Experts<'a>,
    context: &'a Context<'a>,
    stages: &'a Stages<'a>,
    streams: Streams,
    tile: usize,
    done: u64,
}

/// Runs the pass from the embedding through all layers.
pub(super) fn run(job: &Experts, context: &Context) -> Result<PrunedExperts, PruneError> {
    let stages = job.model.stages(job.chunks.context())?;
    let used = job.model.hyper.experts.as_ref().map_or(0, |experts| experts.used);
    let (block, most) = stages.block_and_tile(context.memory / 8);
    // What a token loses by each of its experts is held in f64, plain and weighed, and a stream of each.
    let bytes = (2 * used + 4) * job.model.hyper.hidden * 16;
    let tile = (context.memory / 4) as usize / bytes.max(1) / block * block;
    let tile = tile.clamp(block, most);
    let tokens = job.chunks.tokens();
    let streams =
        Streams::new(tokens.len().div_ceil(tile), tile * stages.widest_state(), context.memory / 4)?;
    let mut pass = Pass { job, context, stages: &stages, streams, tile, done: 0 };
    for (i, tokens) in tokens.chunks(tile).enumerate() {
        let row = |token, out: &mut [f32]| job.model.embedding_row(token, out);
        let rows = job.model.embed_by(tokens, 0, job.chunks.context(), row)?;
        pass.streams.put(i, Side::Original, vec![rows.clone()])?;
        pass.streams.put(i, Side::Quantized, vec![rows])?;
    }
    let mut layers = Vec::new();
    for (layer, stages) in pass.stages.layers().iter().enumerate() {
        layers.extend(pass.layer(layer, stages)?);
    }
    Ok(PrunedExperts { layers })
}

impl Pass<'_> {
    /// Takes both streams through layer number `layer` and chooses its experts, if it has some.
    fn layer(&mut self, layer: usize, stages: &[Stage]) -> Result<Option<ExpertChoice>, PruneError> {
        let all = self.stages;
        let Some((before, mixture)) = Mixture::read(all, stages)? else {
            self.through(stages, [Side::Original, Side::Quantized])?;
            self.count(layer);
            return Ok(None);
        };
        self.through(&stages[..before], [Side::Original, Side::Quantized])?;
        let (experts, _) = mixture.counts();
        let mut absent = vec![false; experts];
        let price = match self.job.score {
            ExpertScore::Reap => {
                let price = self.by_outputs(&mixture, &mut absent)?;
                self.through(&stages[before..], [Side::Original])?;
                price
            }
            ExpertScore::Absence => {
                self.through(&stages[before..], [Side::Original])?;
                self.by_absence(layer, &mixture, &mut absent)?
            }
        };
        for tile in 0..self.streams.len() {
            let tokens = mixture.tokens(tile * self.tile, self.taken(tile, Side::Quantized)?)?;
            self.streams.put(tile, Side::Quantized, vec![mixture.without(&tokens, &absent)?])?;
        }
        self.count(layer);
        let kept = (0..experts).filter(|&expert| !absent[expert]).collect();
        Ok(Some(ExpertChoice { layer, kept, price }))
    }

    /// Cuts the experts whose absence costs least; returns the cost of all that are cut.
    fn by_absence(
        &mut self,
        layer: usize,
        mixture: &Mixture,
        absent: &mut [bool],
    ) -> Result<f64, PruneError> {
        let (experts, used) = mixture.counts();
        let fisher = match self.job.fishers {
            Some(fishers) => fishers.get(&weight_name(layer, "ffn_down_exps"))?,
            None => None,
        };
        let fisher: Option<Vec<f64>> = fisher.map(|f| f.mean.into_iter().map(f64::from).collect());
        let cut = experts - self.job.left;
        let rounds = cut.min(ROUNDS);
        let (mut price, mut unit) = (0.0, 0.0);
        for round in 0..rounds {
            let (mut costs, mut squares) = (Costs::new(experts), 0.0);
            for tile in 0..self.streams.len() {
                let target = self.taken(tile, Side::Original)?;
                let tokens = mixture.tokens(tile * self.tile, self.taken(tile, Side::Quantized)?)?;
                mixture.add_costs(&tokens, &target.concat(), (absent, fisher.as_deref()), &mut costs)?;
                squares += mixture.squared_weights(&tokens);
                self.streams.put(tile, Side::Original, target)?;
                self.streams.put(tile, Side::Quantized, tokens.into_state())?;
            }
            // The gradients of the experts' outputs are those of the layer's output times the weights.
            unit = (self.job.chunks.tokens().len() * used) as f64 / squares;
            let count = cut * (round + 1) / rounds - cut * round / rounds;
            price = costs.cut(absent, count, self.groups(experts));
        }
        Ok(if fisher.is_some() { price * unit } else { price })
    }

    /// Cuts the experts of the least outputs in the original; returns the sum of their scores.
    fn by_outputs(&mut self, mixture: &Mixture, absent: &mut [bool]) -> Result<f64, PruneError> {
        let (experts, _) = mixture.counts();
        let (mut sums, mut counts) = (vec![0.0; experts], vec![0.0; experts]);
        for tile in 0..self.streams.len() {
            let tokens = mixture.tokens(tile * self.tile, self.taken(tile, Side::Original)?)?;
            mixture.add_outputs(&tokens, (&mut sums, &mut counts))?;
            self.streams.put(tile, Side::Original, tokens.into_state())?;
        }
        let scores: Vec<f64> =
            sums.iter().zip(&counts).map(|(sum, count)| sum / f64::max(*count, 1.0)).collect();
        let (groups, per_group) = self.groups(experts);
        let width = experts / groups;
        let mut order: Vec<usize> = (0..experts).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(a.cmp(&b)));
        let mut price = 0.0;
        for expert in order {
            let group = &absent[expert / width * width..(expert / width + 1) * width];
            if group.iter().filter(|&&absent| absent).count() < per_group {
                absent[expert] = true;
                price += scores[expert];
            }
        }
        Ok(price)
    }

    /// Returns the number of groups of the router, and how many experts are cut of each.
    fn groups(&self, experts: usize) -> (usize, usize) {
        let groups = self.job.model.hyper.experts.as_ref().and_then(|experts| experts.groups);
        let groups = groups.map_or(1, |(groups, _)| groups);
        (groups, (experts - self.job.left) / groups)
    }

    /// Takes the streams of `sides` through `stages`, with the weights of the model.
    fn through<const N: usize>(&mut self, stages: &[Stage], sides: [Side; N]) -> Result<(), PruneError> {
        for stage in stages {
            let bound = self.stages.bind(stage, None)?;
            for tile in 0..self.streams.len() {
                for side in sides {
                    let state = self.taken(tile, side)?;
                    let after = self.stages.run(&bound, tile * self.tile, state)?;
                    self.streams.put(tile, side, after)?;
                }
            }
        }
        Ok(())
    }

    fn taken(&mut self, tile: usize, side: Side) -> Result<State, PruneError> {
        if self.context.is_cancelled() {
            return Err(ModelError::Interrupted.into());
        }
        Ok(self.streams.take(tile, side)?)
    }

    /// Tells of a layer that is done.
    fn count(&mut self, layer: usize) {
        self.done += self.job.chunks.tokens().len() as u64;
        self.context.progress.advance(self.done, &format!("layer {layer}"));
    }
}
