//! Recurrent layers: the gated delta rule and Mamba 2's state space, head by head.
//!
//! Sources: Yang, Kautz and Hatamizadeh, Gated Delta Networks, 2024; Dao and Gu, Transformers are SSMs, 2024. The recurrence
//! itself is `kquant_kernels::math::Scan`.

use kquant_kernels::math;
use rayon::prelude::*;

use super::scan_back::ScanRecord;
use super::scan_heads::{HeadInput, HeadPlaces, Rates};
use super::{Operation, Recorded, Step};
use crate::graph::{Recurrence, Slot};
use crate::model::ModelError;
use crate::model::backward::copied;
use crate::model::check::Shapes;
use crate::model::steps::{Attend, Positions};
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The tensors of a recurrence: rate of the decay, bias of the step, and what of the input is added to the output.
pub(in crate::model) const RATE: &str = "ssm_a";
pub(in crate::model) const STEP_BIAS: &str = "ssm_dt.bias";
pub(in crate::model) const SKIP: &str = "ssm_d";

/// The operation that runs a recurrence from [`Slot::Convolved`] to [`Slot::Scanned`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanning(pub Recurrence);

impl Operation for Scanning {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let Some(recurrent) = shapes.hyper().recurrent.as_ref().filter(|recurrent| recurrent.heads > 0)
        else {
            return Err(shapes.graph_error("has a recurrence, the keys have none".into()));
        };
        let heads = recurrent.heads as u64;
        shapes.check_tensor(STEP_BIAS, &[heads])?;
        match self.0 {
            Recurrence::GatedDelta { .. } => shapes.check_tensor(RATE, &[heads]),
            Recurrence::StateSpace => {
                shapes.check_tensor(RATE, &[1, heads])?;
                shapes.check_tensor(SKIP, &[1, heads])
            }
        }
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let recurrent = source.model.hyper.recurrent.as_ref();
        let recurrent = recurrent.ok_or_else(|| ModelError::Graph {
            layer: source.layer,
            what: "has a recurrence, the keys have none".into(),
        })?;
        let skip = match self.0 {
            Recurrence::GatedDelta { .. } => None,
            Recurrence::StateSpace => Some(source.whole(SKIP)?),
        };
        Ok(Box::new(ScanStep {
            places: HeadPlaces::new(self.0, recurrent),
            prefix: source.full(""),
            rate: source.whole(RATE)?,
            bias: source.whole(STEP_BIAS)?,
            skip,
        }))
    }
}

/// The recurrence of a layer with its weights.
#[derive(Debug)]
pub(super) struct ScanStep {
    pub places: HeadPlaces,
    /// What the names of the layer's tensors begin with.
    pub prefix: String,
    /// Rate of the decay, negative, `[heads]`.
    pub rate: Vec<f32>,
    /// Bias of the step, `[heads]`.
    bias: Vec<f32>,
    /// Factor of each head's values that is added to the output, `[heads]` (D of a state space).
    pub skip: Option<Vec<f32>>,
}

/// What a recurrence reads of a chunk.
#[derive(Clone, Copy)]
pub(super) struct ChunkInput<'a> {
    /// Output of the convolution, `[tokens][channels]`.
    rows: &'a [f32],
    /// Steps before softplus, `[tokens][heads]`.
    steps: &'a [f32],
    /// Strengths before the sigmoid, `[tokens][heads]`; empty if they are the steps.
    strengths: &'a [f32],
}

impl ScanStep {
    /// Returns the rates of `head` at token `token` of a chunk.
    pub(super) fn rates(&self, head: usize, token: usize, input: &ChunkInput) -> Rates {
        let at = token * self.places.heads + head;
        let step = f64::from(input.steps[at]) + f64::from(self.bias[head]);
        Rates::new(self.rate[head], step, input.strengths.get(at).copied())
    }

    /// Returns what the recurrence of `head` reads of a chunk, and queries, keys and values before their norms.
    pub(super) fn gather(&self, head: usize, input: &ChunkInput) -> (HeadInput, [Vec<f32>; 3]) {
        let raw = self.places.gather(head, input.rows);
        let tokens = input.steps.len() / self.places.heads;
        let rates: Vec<Rates> = (0..tokens).map(|token| self.rates(head, token, input)).collect();
        let gathered = HeadInput {
            parts: self.places.normed(&raw),
            decays: rates.iter().map(|rates| rates.decay as f32).collect(),
            strengths: rates.iter().map(|rates| rates.strength as f32).collect(),
        };
        (gathered, raw)
    }

    /// Returns the output of `head` over a chunk, `[tokens][value]`, and takes its `state` to the end of the chunk.
    fn run(&self, head: usize, input: &ChunkInput, state: &mut [f32]) -> Vec<f32> {
        let (gathered, _) = self.gather(head, input);
        let mut out = vec![0.0; gathered.parts[2].len()];
        self.places.scan.run(&mut out, state, &gathered.view());
        if let Some(skip) = &self.skip {
            math::add_scaled(&mut out, &gathered.parts[2], skip[head]);
        }
        out
    }

    /// Cuts the slots into chunks of `context` tokens.
    pub(super) fn chunks<'a>(
        &'a self,
        context: usize,
        [rows, steps, strengths]: [&'a [f32]; 3],
    ) -> impl IndexedParallelIterator<Item = ChunkInput<'a>> {
        let (row, heads) = (context * self.places.channels, context * self.places.heads);
        let count = rows.len().div_ceil(row);
        let cut = move |x: &'a [f32], length: usize, chunk: usize| {
            x.get(chunk * length..x.len().min((chunk + 1) * length)).unwrap_or_default()
        };
        (0..count).into_par_iter().map(move |chunk| ChunkInput {
            rows: cut(rows, row, chunk),
            steps: cut(steps, heads, chunk),
            strengths: cut(strengths, heads, chunk),
        })
    }

    /// Returns the contents of the slots that are read.
    fn inputs<'t>(&self, tile: &'t Tile) -> [&'t [f32]; 3] {
        let strengths = if self.skip.is_some() { &[][..] } else { tile.buffer(Slot::Strength) };
        [tile.buffer(Slot::Convolved), tile.buffer(Slot::Step), strengths]
    }

    /// Runs all heads over a chunk and puts their outputs side by side in `out`, `[tokens][heads * value]`; `states` are those of
    /// the heads, `[heads][key][value]`.
    fn run_chunk(&self, input: ChunkInput, states: &mut [f32], out: &mut [f32]) {
        let (heads, width) = (self.places.heads, self.places.scan.value);
        let states = states.par_chunks_exact_mut(self.places.scan.state().max(1)).enumerate();
        let outputs: Vec<Vec<f32>> = states.map(|(head, state)| self.run(head, &input, state)).collect();
        for (token, row) in out.chunks_exact_mut(heads * width).enumerate() {
            for (part, output) in row.chunks_exact_mut(width).zip(&outputs) {
                part.copy_from_slice(&output[token * width..][..width]);
            }
        }
    }
}

impl Step for ScanStep {
    fn forward(&self, tile: &mut Tile, positions: &mut Positions) -> Result<(), ModelError> {
        let HeadPlaces { scan, heads, .. } = self.places;
        let row = heads * scan.value;
        tile.with_output(Slot::Scanned, |tile, out| {
            out.clear();
            out.resize(tile.tokens() * row, 0.0);
            let size = heads * scan.state();
            let chunks = self.chunks(tile.context(), self.inputs(tile));
            let chunks = chunks.zip(out.par_chunks_mut(tile.context() * row));
            match &mut positions.attend {
                Attend::Chunks => {
                    chunks.for_each(|(input, out)| self.run_chunk(input, &mut vec![0.0; size], out));
                }
                Attend::Cached { caches, .. } => {
                    chunks.zip(caches.par_iter_mut()).for_each(|((input, out), cache)| {
                        cache.states.resize(size, 0.0);
                        self.run_chunk(input, &mut cache.states, out);
                    });
                }
            }
        });
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let [rows, steps, strengths] = self.inputs(tile).map(copied);
        Box::new(ScanRecord { step: self, rows, steps, strengths })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}
