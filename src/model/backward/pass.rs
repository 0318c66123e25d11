//! The forward pass over all layers and the backward pass after it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::kept::{Form, Kept};
use super::super::rope::Ropes;
use super::super::steps::Positions;
use super::super::tile::{Tile, split_rows};
use super::super::{EMBEDDING, Model, ModelError, OUTPUT};
use super::gradients::{Gradients, copied, scale};
use super::head::LossHead;
use super::reverse::{Reverse, check};
use super::tape::record;
use super::work::TokenWork;
use super::{Backward, Labels, Loss};
use crate::model::{GradientObserver, Observer};
use crate::text::{BLOCK_ROWS, block_tokens};

/// The state of a backward pass.
struct BackwardPass<'a> {
    model: &'a Model,
    how: &'a Backward<'a>,
    ropes: Ropes,
    /// Number of tokens of the text.
    tokens: usize,
    /// Number of tokens of a tile.
    tile: usize,
    /// Residual stream of each tile, and later its gradient.
    stream: Kept,
    /// Input of each layer, for each tile.
    inputs: Kept,
    /// Bytes of memory for the output projection.
    spare: u64,
    work: TokenWork,
    /// Units of work that are done, for the progress.
    done: u64,
}

impl Model {
    /// Runs `tokens` (`[chunks][context]`) through all layers and back. `forward` sees the input of each linear map,
    /// `gradients` the gradient of each output.
    ///
    /// # Errors
    /// Fails when weights or temporary files cannot be read or written, an activation or a gradient is not finite, an
    /// observer fails, memory does not suffice for a layer and a block of chunks, or the run is cancelled.
    ///
    /// # Panics
    /// Panics when labels are given and their number is not that of the tokens.
    pub fn backward(
        &self,
        tokens: &[u32],
        how: &Backward,
        mut forward: Option<&mut dyn Observer>,
        gradients: &mut dyn GradientObserver,
    ) -> Result<Loss, ModelError> {
        if let Labels::Given(labels) = how.labels {
            let bad = labels.iter().find(|&&label| label as usize >= self.vocab);
            if let Some(&token) = bad {
                return Err(ModelError::Token { token, vocab: self.vocab });
            }
            assert!(labels.len() == tokens.len(), "{} labels of {} tokens", labels.len(), tokens.len());
        }
        let start = Instant::now();
        let mut pass = BackwardPass::new(self, how, tokens.len())?;
        pass.embed(tokens)?;
        for layer in 0..self.hyper.layers {
            pass.forward(layer, &mut forward)?;
        }
        let reached = Instant::now();
        let sum = pass.head(&mut forward, gradients)?;
        if let Some(observer) = &mut forward {
            observer.end_of_chunks(tokens.len() / how.context);
        }
        let turned = Instant::now();
        for layer in (0..self.hyper.layers).rev() {
            pass.backward(layer, gradients)?;
        }
        pass.embedding(tokens, gradients)?;
        Ok(Loss {
            sum,
            tokens: tokens.len(),
            forward: reached - start,
            head: turned - reached,
            backward: turned.elapsed(),
        })
    }

    /// Returns the units of work of [`backward`](Self::backward) over `tokens` tokens.
    pub fn backward_work(&self, tokens: usize) -> u64 {
        TokenWork::of(self).token() * tokens as u64
    }
}

impl<'a> BackwardPass<'a> {
    fn new(model: &'a Model, how: &'a Backward<'a>, tokens: usize) -> Result<Self, ModelError> {
        if how.context > model.hyper.context {
            return Err(ModelError::Context { asked: how.context, longest: model.hyper.context });
        }
        let block = block_tokens(how.context);
        // A layer has weights for both directions. A tile has slots, their recorded contents and gradients.
        let layer = 2 * model.layer_bytes();
        let block_bytes = 3 * model.token_bytes() * block as u64;
        let wanted = (4 * rayon::current_num_threads() * BLOCK_ROWS).div_ceil(block) as u64;
        let affordable = how.memory.saturating_sub(layer) / 2 / block_bytes.max(1);
        let blocks = wanted.min(affordable).max(1);
        let Some(mut spare) = how.memory.checked_sub(layer + blocks * block_bytes) else {
            return Err(ModelError::Memory { needed: layer + block_bytes });
        };
        let tile = blocks as usize * block;
        let tiles = tokens.div_ceil(tile);
        let values = (tokens * model.hyper.row_width()) as u64;
        let form = if how.exact { Form::F32 } else { Form::Bf16 };
        let mut kept = |count: usize, values: u64, form: Form| {
            let kept = Kept::new(count, values, form, spare)?;
            spare -= kept.memory(values);
            Ok::<_, ModelError>(kept)
        };
        let layers = model.hyper.layers;
        let stream = kept(tiles, values, Form::F32)?;
        let inputs = kept(layers * tiles, layers as u64 * values, form)?;
        // While the output projection runs, no layer is held, and of a tile only the stream.
        spare += layer + blocks * block_bytes / 2;
        let (ropes, work) = (model.ropes(how.context)?, TokenWork::of(model));
        Ok(Self { model, how, ropes, tokens, tile, stream, inputs, spare, work, done: 0 })
    }

    /// Returns the numbers of the tiles and of their first tokens.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        (0..self.tokens).step_by(self.tile).enumerate()
    }

    /// Returns the number of tokens of the tile that starts at token `first`.
    fn length(&self, first: usize) -> usize {
        self.tile.min(self.tokens - first)
    }

    fn check_cancel(&self) -> Result<(), ModelError> {
        if self.how.cancel.load(Ordering::Relaxed) { Err(ModelError::Interrupted) } else { Ok(()) }
    }

    /// Reports that `tokens` more tokens have passed a step of `work` units per token.
    fn advance(&mut self, tokens: usize, work: u64, what: &str) {
        self.done += tokens as u64 * work;
        self.how.progress.advance(self.done, what);
    }

    fn embed(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        for (tile, tokens) in tokens.chunks(self.tile).enumerate() {
            self.stream.put(tile, self.model.embed(tokens, 0, self.how.context)?)?;
        }
        Ok(())
    }

    fn forward(&mut self, number: usize, observer: &mut Option<&mut dyn Observer>) -> Result<(), ModelError> {
        let steps = self.model.layer_steps(number)?;
        let mut tile = Tile::new(self.how.context);
        let place = number * self.tiles().count();
        for (at, first) in self.tiles() {
            self.check_cancel()?;
            let stream = self.stream.take(at)?;
            self.inputs.put(place + at, copied(&stream))?;
            tile.set_rows(stream, self.model.row_widths(number), first);
            steps.run(&mut tile, &mut Positions::of_chunks(&self.ropes), observer)?;
            self.stream.put(at, tile.take_rows())?;
            self.advance(self.length(first), self.work.forward[number], &format!("layer {number}"));
        }
        observer.as_mut().map_or(Ok(()), |observer| observer.end_of_layer())?;
        Ok(())
    }

    /// Replaces the last stream by its gradient and returns the loss, in nats.
    fn head(
        &mut self,
        forward: &mut Option<&mut dyn Observer>,
        gradients: &mut dyn GradientObserver,
    ) -> Result<f64, ModelError> {
        let block = block_tokens(self.how.context);
        let mut loss = LossHead::new(self.model, self.how.labels, block, self.spare)?;
        for (at, first) in self.tiles() {
            self.check_cancel()?;
            let hidden = self.stream.take(at)?;
            let normed = loss.normed(&hidden);
            if let (Some(observer), true) = (&mut *forward, self.how.with_output) {
                observer.linear_input(&[OUTPUT], &normed, self.model.hyper.hidden)?;
            }
            let gradient = loss.gradient(&hidden, &normed, first, gradients)?;
            self.stream.put(at, gradient)?;
            self.advance(self.length(first), self.work.head, "output");
        }
        loss.finish(gradients)?;
        gradients.end_of_layer()?;
        Ok(loss.sum)
    }

    fn backward(&mut self, number: usize, observer: &mut dyn GradientObserver) -> Result<(), ModelError> {
        let steps = self.model.layer_steps(number)?;
        let mut tile = Tile::new(self.how.context);
        let place = number * self.tiles().count();
        for (at, first) in self.tiles() {
            self.check_cancel()?;
            let (input, gradient) = (self.inputs.take(place + at)?, self.stream.take(at)?);
            tile.set_rows(input, self.model.row_widths(number), first);
            let (tokens, ropes) = (self.length(first), &self.ropes);
            let tape = record(&mut tile, &steps, ropes, observer.weights().is_some())?;
            let gradients = Gradients::default();
            let context = self.how.context;
            let reverse = Reverse { ropes, context, tokens, first, gradients, observer: &mut *observer };
            let after = self.model.row_widths(number + 1);
            let gradient = reverse.run(
                (number, self.model.row_widths(number).1),
                tape,
                split_rows(gradient, after.0, after.1),
            )?;
            self.stream.put(at, gradient)?;
            self.advance(tokens, self.work.backward[number], &format!("layer {number} backwards"));
        }
        observer.end_of_layer()?;
        Ok(())
    }

    fn embedding(&mut self, tokens: &[u32], observer: &mut dyn GradientObserver) -> Result<(), ModelError> {
        let hyper = &self.model.hyper;
        for (at, first) in self.tiles() {
            let tokens = &tokens[first..first + self.length(first)];
            let rows = self.stream.take(at)?;
            let mut gradient = self.model.entry_gradient((tokens, self.how.context), rows, observer)?;
            scale(&mut gradient, hyper.embedding_scale);
            check(EMBEDDING, &gradient, hyper.hidden, first)?;
            observer.embedding_gradient(&gradient, hyper.hidden)?;
            if let Some(observer) = observer.weights() {
                observer.rows(EMBEDDING, tokens, &gradient, hyper.hidden);
            }
        }
        observer.end_of_layer()?;
        Ok(())
    }
}
