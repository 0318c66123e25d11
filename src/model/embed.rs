//! Tokens to the residual stream.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{EMBEDDING, Model, ModelError, POSITIONS};
use crate::pipeline::read_rows;

impl Model {
    /// Rows of the embedding for `tokens`, `[tokens][hidden]`; `position` is that of the first, and every `context` tokens
    /// it starts anew.
    pub(super) fn embed(
        &self,
        tokens: &[u32],
        position: usize,
        context: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let hidden = self.hyper.hidden;
        let embedding = self.tensor(EMBEDDING)?;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= self.vocab) {
            return Err(ModelError::Token { token, vocab: self.vocab });
        }
        let mut stream = vec![0.0; tokens.len() * hidden];
        stream.par_chunks_mut(hidden).zip(tokens).try_for_each(|(out, &token)| {
            let row = u64::from(token);
            read_rows(self.opened.checkpoint.as_ref(), embedding, row..row + 1, out)
                .map_err(|e| ModelError::Read { what: e.to_string() })
        })?;
        if self.family.learned_positions {
            let mut table = vec![0.0; context * hidden];
            self.rows(self.tensor(POSITIONS)?, position as u64, &mut table)?;
            stream.par_chunks_mut(context * hidden).for_each(|chunk| math::add(chunk, &table[..chunk.len()]));
        }
        Ok(stream)
    }
}
