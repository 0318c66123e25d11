//! The causal convolution over the tokens of a text, channel by channel.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::{ROWS, Reverse, copied};
use crate::model::check::Shapes;
use crate::model::steps::{Attend, Cache, Positions};
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;
use crate::tensor::TensorName;

/// The operation that convolves [`Slot::Convolved`] in place, with SiLU after it if `silu` is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolve {
    pub name: &'static str,
    pub silu: bool,
}

impl Operation for Convolve {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let Some(recurrent) = &shapes.hyper().recurrent else {
            return Err(shapes.graph_error("has a convolution, the keys have none".into()));
        };
        let channels = recurrent.channels() as u64;
        shapes.check_weight(self.name, &[recurrent.kernel as u64, channels])?;
        shapes.check_bias(self.name, &[channels])
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let weight = source.values(self.name)?;
        let channels = source.model.hyper.width(Slot::Convolved, source.layer).unwrap_or(weight.len()).max(1);
        let kernel = weight.len() / channels;
        let taps = (0..weight.len()).map(|i| weight[i % channels * kernel + i / channels]).collect();
        let bias = source.bias(self.name)?;
        let (silu, has_bias) = (self.silu, bias.is_some());
        let tensor = format!("{}.weight", source.full(self.name));
        let bias = bias.unwrap_or_else(|| vec![0.0; channels]);
        Ok(Box::new(ConvolveStep { tensor, taps, bias, has_bias, silu }))
    }
}

#[derive(Debug)]
struct ConvolveStep {
    /// GGUF name of the weight.
    tensor: String,
    /// The weight, `[kernel][channels]`.
    taps: Vec<f32>,
    /// The bias, `[channels]`; zeros if the model has none.
    bias: Vec<f32>,
    has_bias: bool,
    silu: bool,
}

impl ConvolveStep {
    fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Returns the number of values of the rows before a token that it sees.
    fn earlier(&self) -> usize {
        self.taps.len() - self.channels()
    }

    /// Convolves whole chunks from their beginning, from `x` to `out`, both `[tokens][channels]`.
    fn convolve(&self, context: usize, x: &[f32], out: &mut [f32]) {
        let (chunk, before) = (context * self.channels(), vec![0.0; self.earlier()]);
        let chunks = out.par_chunks_mut(chunk).zip(x.par_chunks(chunk));
        chunks.for_each(|(out, x)| math::causal_conv(out, x, &before, &self.taps, &self.bias));
    }

    /// Convolves what follows the rows in `cache`, and keeps the last rows for what comes after.
    fn follow(&self, x: &[f32], out: &mut [f32], cache: &mut Cache) {
        let earlier = self.earlier();
        cache.convolved.resize(earlier, 0.0);
        math::causal_conv(out, x, &cache.convolved, &self.taps, &self.bias);
        cache.convolved.extend_from_slice(x);
        cache.convolved.drain(..x.len());
    }
}

impl Step for ConvolveStep {
    fn forward(&self, tile: &mut Tile, positions: &mut Positions) -> Result<(), ModelError> {
        let x = tile.take_slot(Slot::Convolved);
        let mut out = vec![0.0; x.len()];
        match &mut positions.attend {
            Attend::Chunks => self.convolve(tile.context(), &x, &mut out),
            Attend::Cached { caches, .. } => {
                let chunk = tile.context() * self.channels();
                let texts = out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).zip(caches.par_iter_mut());
                texts.for_each(|((out, x), cache)| self.follow(x, out, cache));
            }
        }
        if self.silu {
            out.par_chunks_mut(self.channels()).for_each(math::silu);
        }
        tile.set_slot(Slot::Convolved, out);
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(ConvolveRecord { step: self, x: copied(tile.buffer(Slot::Convolved)) })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct ConvolveRecord<'a> {
    step: &'a ConvolveStep,
    /// Input of the convolution, `[tokens][channels]`.
    x: Vec<f32>,
}

impl Recorded for ConvolveRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let Some(mut gradient) = reverse.gradients.take(Slot::Convolved) else { return Ok(()) };
        let (step, channels) = (self.step, self.step.channels());
        if step.silu {
            let mut sums = vec![0.0; self.x.len()];
            step.convolve(reverse.context, &self.x, &mut sums);
            let rows = gradient.par_chunks_mut(ROWS * channels).zip(sums.par_chunks(ROWS * channels));
            rows.for_each(|(gradient, sums)| math::silu_gradient(gradient, sums));
        }
        let chunk = reverse.context * channels;
        if let Some(observer) = reverse.observer.weights() {
            let width = step.taps.len();
            let mut products = vec![0.0; reverse.tokens * width];
            products
                .par_chunks_mut(reverse.context * width)
                .zip(self.x.par_chunks(chunk).zip(gradient.par_chunks(chunk)))
                .for_each(|(products, (x, d))| math::causal_conv_products(products, x, d, channels));
            observer.columns(&step.tensor, 0, &products, width);
            if step.has_bias {
                observer.columns(&TensorName(&step.tensor).bias(), 0, &gradient, channels);
            }
        }
        let mut d_x = vec![0.0; gradient.len()];
        let chunks = d_x.par_chunks_mut(chunk).zip(gradient.par_chunks(chunk));
        chunks.for_each(|(d_x, d)| math::causal_conv_gradient(d_x, d, &step.taps, channels));
        reverse.gradients.add(Slot::Convolved, d_x);
        Ok(())
    }
}
