//! Generation of texts, token by token, with caches of keys and values: one text, or many at once.

use super::rope::Ropes;
use super::steps::{Attend, BoundSteps, Cache, Positions};
use super::tile::Tile;
use super::{Head, Logits, Model, ModelError};

/// Texts of equal length under generation, which do not see each other.
pub struct Session<'a> {
    model: &'a Model,
    head: Head<'a>,
    /// Weights of all layers, where memory allows; otherwise empty, and each layer is decoded for every step.
    held: Vec<BoundSteps>,
    /// Keys and values, `[layers][texts]`.
    caches: Vec<Vec<Cache>>,
    ropes: Ropes,
    /// Largest length of a text, in tokens.
    context: usize,
    position: usize,
}

impl Model {
    /// Starts one text of at most `context` tokens, or of the model's context if that is shorter. Weights are held decoded if they fit
    /// `memory` bytes.
    ///
    /// # Errors
    /// Fails when weights cannot be read.
    pub fn session(&self, memory: u64, context: usize) -> Result<Session<'_>, ModelError> {
        self.sessions(1, context.min(self.hyper.context), self.decoded_bytes() <= memory)
    }

    /// Starts `texts` texts of at most `context` tokens each; `hold` says whether all weights are held decoded.
    pub(super) fn sessions(
        &self,
        texts: usize,
        context: usize,
        hold: bool,
    ) -> Result<Session<'_>, ModelError> {
        self.check_predicts()?;
        let layers = if hold { self.hyper.layers } else { 0 };
        let held = (0..layers).map(|layer| self.layer_steps(layer)).collect::<Result<_, _>>()?;
        let head = self.head(if hold { u64::MAX } else { 0 })?;
        let ropes = self.ropes(context)?;
        let mut session =
            Session { model: self, head, held, caches: Vec::new(), ropes, context, position: 0 };
        session.restart(texts);
        Ok(session)
    }

    /// Returns the bytes of all weights, decoded for products.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.input.tensors.iter().map(|t| t.weights() * self.products.weight_bytes()).sum()
    }
}

impl Session<'_> {
    /// Returns the number of tokens by which each text can still grow.
    pub fn room(&self) -> usize {
        self.context - self.position
    }

    /// Begins `texts` new texts in place of the old ones.
    pub(super) fn restart(&mut self, texts: usize) {
        let layer = || (0..texts).map(|_| Cache::default()).collect();
        self.caches = (0..self.model.hyper.layers).map(|_| layer()).collect();
        self.position = 0;
    }

    /// Appends `tokens` to the only text and returns the logits (`[vocab]`) of the token that follows.
    ///
    /// # Errors
    /// Fails when there are no tokens, they do not fit the context, or the pass fails.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let logits = self.feed_each(tokens, tokens.len())?;
        let mut row = Vec::with_capacity(self.model.vocab);
        logits.row(0, &mut row);
        Ok(row)
    }

    /// Appends `tokens`, `[texts][more]`, to the texts and returns the logits of the token that follows each. They do not
    /// depend on the number of texts.
    ///
    /// # Errors
    /// Fails when there are no tokens, they do not fit the context, or the pass fails.
    pub(super) fn feed_each(&mut self, tokens: &[u32], more: usize) -> Result<Logits, ModelError> {
        if more == 0 || more > self.room() {
            return Err(ModelError::Context { asked: self.position + more, longest: self.context });
        }
        let (model, hidden) = (self.model, self.model.hyper.hidden);
        let mut tile = Tile::new(more);
        tile.set_rows(model.embed(tokens, self.position, more)?, model.row_widths(0), self.position);
        for (number, caches) in self.caches.iter_mut().enumerate() {
            let decoded;
            let steps = match self.held.get(number) {
                Some(steps) => steps,
                None => {
                    decoded = model.layer_steps(number)?;
                    &decoded
                }
            };
            let attend = Attend::Cached { start: self.position, caches };
            steps.run(&mut tile, &mut Positions { ropes: &self.ropes, attend }, &mut None)?;
        }
        self.position += more;
        let stream = tile.take_rows();
        let last: Vec<f32> = stream
            .chunks_exact(more * hidden)
            .flat_map(|text| &text[(more - 1) * hidden..])
            .copied()
            .collect();
        self.head.logits(&self.head.normed(&last))
    }
}
