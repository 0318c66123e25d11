//! Attention over a chunk, or over everything that a session has seen.

use kquant_kernels::math::{GradientScratch, Heads, Scratch, Seen, SeenGradients};
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::{Reverse, copied};
use crate::model::check::Shapes;
use crate::model::steps::{Attend, Positions};
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that computes [`Slot::Attended`] from queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    /// Name of the tensor `[heads]` of attention sinks: scores without values.
    pub sinks: Option<&'static str>,
}

impl Operation for Attention {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let heads = shapes.hyper().heads as u64;
        self.sinks.map_or(Ok(()), |name| shapes.check_weight(name, &[heads]))
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let sinks = self.sinks.map(|name| source.values(name)).transpose()?.unwrap_or_default();
        Ok(Box::new(AttentionStep { heads: source.model.hyper.attention(source.layer), sinks }))
    }
}

#[derive(Debug)]
struct AttentionStep {
    heads: Heads,
    /// Attention sinks, `[heads]` or empty.
    sinks: Vec<f32>,
}

/// The widths of the slots.
struct Widths {
    query: usize,
    key: usize,
    value: usize,
    attended: usize,
}

impl AttentionStep {
    fn widths(&self) -> Widths {
        let Heads { heads, kv_heads, dim, value_dim, .. } = self.heads;
        Widths {
            query: heads * dim,
            key: kv_heads * dim,
            value: kv_heads * value_dim,
            attended: heads * value_dim,
        }
    }
}

impl Step for AttentionStep {
    fn forward(&self, tile: &mut Tile, positions: &mut Positions) -> Result<(), ModelError> {
        let (widths, heads, sinks) = (self.widths(), &self.heads, &*self.sinks);
        tile.with_output(Slot::Attended, |tile, out| {
            out.resize(tile.tokens() * widths.attended, 0.0);
            let chunk = |slot: Slot, width: usize| tile.buffer(slot).par_chunks(tile.context() * width);
            let chunks = out
                .par_chunks_mut(tile.context() * widths.attended)
                .zip(chunk(Slot::Query, widths.query))
                .zip(chunk(Slot::Key, widths.key))
                .zip(chunk(Slot::Value, widths.value));
            match &mut positions.attend {
                Attend::Chunks => {
                    chunks.for_each_init(Scratch::default, |scratch, (((out, q), keys), values)| {
                        heads.attend(out, q, Seen { keys, values, sinks }, scratch)
                    });
                }
                Attend::Cached { caches, .. } => {
                    let texts = chunks.zip(caches.par_iter_mut());
                    texts.for_each_init(Scratch::default, |scratch, ((((out, q), keys), values), cache)| {
                        cache.keys.extend_from_slice(keys);
                        cache.values.extend_from_slice(values);
                        let seen = Seen { keys: &cache.keys, values: &cache.values, sinks };
                        heads.attend(out, q, seen, scratch)
                    });
                }
            }
        });
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let [queries, keys, values] =
            [Slot::Query, Slot::Key, Slot::Value].map(|slot| copied(tile.buffer(slot)));
        Box::new(AttentionRecord { step: self, queries, keys, values })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct AttentionRecord<'a> {
    step: &'a AttentionStep,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Recorded for AttentionRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let Some(gradient) = reverse.gradients.take(Slot::Attended) else { return Ok(()) };
        let (heads, sinks) = (&self.step.heads, &*self.step.sinks);
        let Widths { query, key, value, attended } = self.step.widths();
        let [query, key, value, attended] = [query, key, value, attended].map(|w| w * reverse.context);
        let [mut dq, mut dk, mut dv] =
            [&self.queries, &self.keys, &self.values].map(|values| vec![0.0; values.len()]);
        dq.par_chunks_mut(query)
            .zip(dk.par_chunks_mut(key))
            .zip(dv.par_chunks_mut(value))
            .zip(self.queries.par_chunks(query))
            .zip(self.keys.par_chunks(key))
            .zip(self.values.par_chunks(value))
            .zip(gradient.par_chunks(attended))
            .for_each_init(
                GradientScratch::default,
                |scratch, ((((((queries, dk), dv), q), keys), values), d)| {
                    let out = SeenGradients { queries, keys: dk, values: dv };
                    heads.attend_gradient(out, d, q, Seen { keys, values, sinks }, scratch);
                },
            );
        reverse.gradients.add(Slot::Query, dq);
        reverse.gradients.add(Slot::Key, dk);
        reverse.gradients.add(Slot::Value, dv);
        Ok(())
    }
}
