//! The embedding of tokens into the residual stream.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{EMBEDDING, EMBEDDING_NORM, Model, ModelError, POSITIONS, TOKEN_TYPES};
use crate::model::GradientObserver;

impl Model {
    /// Returns what goes into the first layer for `tokens`: the rows of the embedding, `[tokens][hidden]`, each with the inputs of layers
    /// beside it, if layers have some. The first token is at `position`, and positions start anew there every `context` tokens.
    pub(super) fn embed(
        &self,
        tokens: &[u32],
        position: usize,
        context: usize,
    ) -> Result<Vec<f32>, ModelError> {
        self.embed_by(tokens, position, context, |token, out| self.embedding_row(token, out))
    }

    /// Returns what [`embed`](Self::embed) does, with the rows that `row` fills in.
    pub(crate) fn embed_by(
        &self,
        tokens: &[u32],
        position: usize,
        context: usize,
        row: impl Fn(u32, &mut [f32]) -> Result<(), ModelError> + Sync,
    ) -> Result<Vec<f32>, ModelError> {
        self.enter(self.lookup(tokens, row)?, tokens, position, context)
    }

    /// Returns the rows, `[tokens][hidden]`, that `row` fills in for `tokens`.
    pub(super) fn lookup(
        &self,
        tokens: &[u32],
        row: impl Fn(u32, &mut [f32]) -> Result<(), ModelError> + Sync,
    ) -> Result<Vec<f32>, ModelError> {
        let hidden = self.hyper.hidden;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= self.vocab) {
            return Err(ModelError::Token { token, vocab: self.vocab });
        }
        let mut stream = vec![0.0; tokens.len() * hidden];
        stream.par_chunks_mut(hidden).zip(tokens).try_for_each(|(out, &token)| row(token, out))?;
        Ok(stream)
    }

    /// Makes of the rows of the embedding for `tokens` what goes into the first layer, as [`embed`](Self::embed) describes it.
    pub(super) fn enter(
        &self,
        stream: Vec<f32>,
        tokens: &[u32],
        position: usize,
        context: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let mut stream = self.with_positions(stream, position, context)?;
        if let Some(kind) = self.graph.embedding_norm {
            let summed = std::mem::take(&mut stream);
            stream.resize(summed.len(), 0.0);
            self.norms(EMBEDDING_NORM, kind)?.apply_to_rows(&summed, &mut stream);
        }
        self.with_layer_inputs((tokens, context), stream)
    }

    /// Scales the rows of the embedding and adds what does not depend on the token: learned positions, and the type of a first text,
    /// which all tokens have.
    fn with_positions(
        &self,
        mut stream: Vec<f32>,
        position: usize,
        context: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let hidden = self.hyper.hidden;
        if self.hyper.embedding_scale != 1.0 {
            stream.par_chunks_mut(hidden).flatten().for_each(|x| *x *= self.hyper.embedding_scale);
        }
        if self.graph.learned_positions {
            let mut table = vec![0.0; context * hidden];
            self.rows(self.tensor(POSITIONS)?, position as u64, &mut table)?;
            stream.par_chunks_mut(context * hidden).for_each(|chunk| math::add(chunk, &table[..chunk.len()]));
        }
        if let Some(types) = self.find(TOKEN_TYPES) {
            let first = self.row_values(types, 0..1)?;
            stream.par_chunks_mut(hidden).for_each(|row| math::add(row, &first));
        }
        Ok(stream)
    }

    /// Returns the gradient of the embedding's rows for `tokens`, after their scale, given that of the `rows` that go into the first
    /// layer; `observer` is shown the gradients of the weights on the way.
    pub(super) fn entry_gradient(
        &self,
        (tokens, context): (&[u32], usize),
        rows: Vec<f32>,
        observer: &mut dyn GradientObserver,
    ) -> Result<Vec<f32>, ModelError> {
        let hidden = self.hyper.hidden;
        let mut gradient = self.layer_inputs_gradient((tokens, context), rows, observer)?;
        if let Some(kind) = self.graph.embedding_norm {
            let rows = self.lookup(tokens, |token, out| self.embedding_row(token, out))?;
            let summed = self.with_positions(rows, 0, context)?;
            let norms = self.norms(EMBEDDING_NORM, kind)?;
            if let Some(observer) = observer.weights() {
                norms.show(&self.norm_weight(EMBEDDING_NORM), &summed, &gradient, observer);
            }
            norms.gradient(&summed, &mut gradient);
        }
        if let Some(observer) = observer.weights() {
            if self.find(TOKEN_TYPES).is_some() {
                observer.rows(TOKEN_TYPES, &vec![0; tokens.len()], &gradient, hidden);
            }
            if self.graph.learned_positions {
                let positions: Vec<u32> = (0..tokens.len()).map(|i| (i % context) as u32).collect();
                observer.rows(POSITIONS, &positions, &gradient, hidden);
            }
        }
        Ok(gradient)
    }

    /// Fills `out` `[hidden]` with the row of the embedding for `token`.
    pub(crate) fn embedding_row(&self, token: u32, out: &mut [f32]) -> Result<(), ModelError> {
        let row = u64::from(token);
        self.read(self.tensor(EMBEDDING)?, row..row + 1, out)
    }
}
