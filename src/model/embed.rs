//! The embedding of tokens into the residual stream.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{EMBEDDING, Model, ModelError, POSITIONS};

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
        mut stream: Vec<f32>,
        tokens: &[u32],
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
        self.with_layer_inputs((tokens, context), stream)
    }

    /// Fills `out` `[hidden]` with the row of the embedding for `token`.
    pub(crate) fn embedding_row(&self, token: u32, out: &mut [f32]) -> Result<(), ModelError> {
        let row = u64::from(token);
        self.read(self.tensor(EMBEDDING)?, row..row + 1, out)
    }
}
