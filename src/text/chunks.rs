//! The division of a text into chunks, which equals that of llama-perplexity.

use std::ops::Range;

use super::held_out::is_held_out;
use super::{ChunkError, chunks_per_block};

/// Chunks of equal length, each of which is evaluated on its own; the rest of the text is dropped.
///
/// The second half of a chunk is scored: the positions `context / 2 .. context - 1`, each predicting the next token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    pub(super) context: usize,
    pub(super) tokens: Vec<u32>,
    pub(super) text: Vec<u32>,
}

impl Chunks {
    /// Cuts a text into chunks of `context` tokens, at most `limit` of them.
    ///
    /// `text` is tokenized as a whole, with BOS in front if the tokenizer adds one; `bos` is that token, and then replaces
    /// the first of each chunk.
    ///
    /// # Errors
    /// Fails when the text does not fill two chunks (whatever the limit), the context is below 3 or the limit 0.
    pub fn new(
        text: Vec<u32>,
        context: usize,
        limit: Option<usize>,
        bos: Option<u32>,
    ) -> Result<Self, ChunkError> {
        let needed = context.saturating_mul(2);
        if text.len() < needed {
            return Err(ChunkError::TooShort { tokens: text.len(), context, needed });
        }
        Self::cut(text, context, limit, bos)
    }

    /// Creates the chunks recorded in a logits file, `text: [chunks][context]`, at most `limit` of them; one chunk is
    /// enough.
    ///
    /// # Errors
    /// Fails when `text` is not a whole number of chunks, the context is below 3 or the limit 0.
    pub fn recorded(
        text: Vec<u32>,
        context: usize,
        limit: Option<usize>,
        bos: Option<u32>,
    ) -> Result<Self, ChunkError> {
        if text.is_empty() || !text.len().is_multiple_of(context) {
            return Err(ChunkError::Ragged { tokens: text.len(), context });
        }
        Self::cut(text, context, limit, bos)
    }

    fn cut(
        mut text: Vec<u32>,
        context: usize,
        limit: Option<usize>,
        bos: Option<u32>,
    ) -> Result<Self, ChunkError> {
        if context < 3 {
            return Err(ChunkError::Context(context));
        }
        if limit == Some(0) {
            return Err(ChunkError::NoChunks);
        }
        let all = text.len() / context;
        text.truncate(limit.map_or(all, |limit| limit.min(all)) * context);
        let mut tokens = text.clone();
        if let Some(bos) = bos {
            tokens.iter_mut().step_by(context).for_each(|first| *first = bos);
        }
        Ok(Self { context, tokens, text })
    }

    /// Returns the chunks in the range `chunks`; those outside the text are left out.
    #[must_use]
    pub fn some(&self, chunks: Range<usize>) -> Self {
        let tokens = |all: &[u32]| {
            let end = chunks.end.saturating_mul(self.context).min(all.len());
            all[chunks.start.saturating_mul(self.context).min(end)..end].to_vec()
        };
        Self { context: self.context, tokens: tokens(&self.tokens), text: tokens(&self.text) }
    }

    /// Returns the numbers of the chunks that are trained on, and of those of the blocks that nothing is trained on; the second are none
    /// where there is a single block.
    pub fn held_out(&self) -> (Vec<usize>, Vec<usize>) {
        let per_block = chunks_per_block(self.context);
        let blocks = self.len().div_ceil(per_block);
        (0..self.len()).partition(|chunk| !is_held_out(chunk / per_block, blocks))
    }

    /// Returns `count` chunks that are spread evenly over the text; all of them if there are no more.
    #[must_use]
    pub fn spread(&self, count: usize) -> Self {
        self.of(&spread(&(0..self.len()).collect::<Vec<_>>(), count))
    }

    /// Returns the chunks `numbers`, in their order; those outside the text are left out.
    #[must_use]
    pub fn of(&self, numbers: &[usize]) -> Self {
        let tokens = |all: &[u32]| {
            let chunk = |&i: &usize| all.chunks_exact(self.context).nth(i).unwrap_or_default();
            numbers.iter().flat_map(chunk).copied().collect()
        };
        Self { context: self.context, tokens: tokens(&self.tokens), text: tokens(&self.text) }
    }

    /// Returns the number of tokens per chunk.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Returns the number of chunks, which is at least 1.
    #[allow(clippy::len_without_is_empty)] // no instance is empty
    pub fn len(&self) -> usize {
        self.tokens.len() / self.context
    }

    /// Returns the tokens that the model reads, `[chunks][context]`, with BOS in place.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the tokens of the text itself, `[chunks][context]`, as logits files keep them.
    pub fn text(&self) -> &[u32] {
        &self.text
    }

    /// Returns the tokens that the model reads of chunk `i`, `[context]`; empty if there is no such chunk.
    pub fn chunk(&self, i: usize) -> &[u32] {
        self.tokens.chunks_exact(self.context).nth(i).unwrap_or_default()
    }

    /// Returns the positions of a chunk whose logits are scored.
    pub fn scored(&self) -> Range<usize> {
        self.context / 2..self.context - 1
    }

    /// Returns the tokens that the scored positions of chunk `i` predict, in their order; empty if there is no such
    /// chunk.
    pub fn targets(&self, i: usize) -> &[u32] {
        let scored = self.scored();
        self.chunk(i).get(scored.start + 1..=scored.end).unwrap_or_default()
    }

    /// Returns the number of tokens scored in all chunks together.
    pub fn tokens_scored(&self) -> usize {
        self.len() * self.scored().len()
    }
}

/// Returns `count` of `numbers` that are spread evenly over them; all of them if there are no more.
pub fn spread(numbers: &[usize], count: usize) -> Vec<usize> {
    let count = count.clamp(1, numbers.len().max(1)).min(numbers.len());
    (0..count).map(|i| numbers[i * numbers.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: u32) -> Vec<u32> {
        (100..100 + n).collect()
    }

    #[test]
    fn the_tail_is_dropped_and_bos_replaces_first_tokens() {
        let chunks = Chunks::new(text(27), 8, None, Some(1)).unwrap();
        assert_eq!((chunks.len(), chunks.scored(), chunks.tokens_scored()), (3, 4..7, 9));
        assert_eq!(chunks.chunk(0), [1, 101, 102, 103, 104, 105, 106, 107]);
        assert_eq!(chunks.chunk(2), [1, 117, 118, 119, 120, 121, 122, 123]);
        assert_eq!(chunks.chunk(3), [0; 0]);
        assert_eq!(chunks.targets(1), [113, 114, 115]);
        assert_eq!(chunks.text(), text(24));
        assert_eq!(chunks.tokens().len(), 24);
    }

    #[test]
    fn an_odd_context_scores_its_longer_half() {
        let chunks = Chunks::new(text(14), 7, None, None).unwrap();
        assert_eq!(chunks.scored(), 3..6);
        assert_eq!(chunks.targets(0), [104, 105, 106]);
        assert_eq!(chunks.tokens(), text(14));
        let shortest = Chunks::new(text(6), 3, None, None).unwrap();
        assert_eq!((shortest.scored(), shortest.targets(1)), (1..2, &[105][..]));
    }

    #[test]
    fn the_limit_cuts_and_does_not_stretch() {
        let len = |limit| Chunks::new(text(40), 8, Some(limit), None).map(|c| c.len());
        assert_eq!((len(1), len(5), len(6)), (Ok(1), Ok(5), Ok(5)));
        assert_eq!(len(0), Err(ChunkError::NoChunks));
    }

    #[test]
    fn two_chunks_are_needed_even_for_one() {
        let error = Chunks::new(text(15), 8, Some(1), None).unwrap_err();
        assert_eq!(error, ChunkError::TooShort { tokens: 15, context: 8, needed: 16 });
        assert!(error.to_string().contains("15 tokens"), "{error}");
        assert!(Chunks::new(text(16), 8, Some(1), None).is_ok());
        assert_eq!(Chunks::new(text(9), 2, None, None), Err(ChunkError::Context(2)));
        assert_eq!(Chunks::new(text(9), 0, None, None), Err(ChunkError::Context(0)));
        let huge = Chunks::new(text(9), usize::MAX, None, None);
        assert!(matches!(huge, Err(ChunkError::TooShort { .. })), "{huge:?}");
    }

    #[test]
    fn chunks_are_picked_with_their_tokens() {
        let chunks = Chunks::new(text(27), 8, None, Some(1)).unwrap();
        let picked = chunks.of(&[2, 0, 9]);
        assert_eq!((picked.len(), picked.chunk(0)), (2, chunks.chunk(2)));
        assert_eq!((picked.chunk(1), &picked.text()[8..]), (chunks.chunk(0), &chunks.text()[..8]));
    }

    #[test]
    fn recorded_chunks_are_taken_as_they_are() {
        let one = Chunks::recorded(text(8), 8, None, Some(1)).unwrap();
        assert_eq!((one.len(), one.chunk(0)[0], one.text()[0]), (1, 1, 100));
        assert_eq!(
            Chunks::recorded(text(9), 8, None, None),
            Err(ChunkError::Ragged { tokens: 9, context: 8 })
        );
        assert_eq!(
            Chunks::recorded(vec![], 8, None, None),
            Err(ChunkError::Ragged { tokens: 0, context: 8 })
        );
        assert_eq!(
            Chunks::recorded(text(8), 0, None, None),
            Err(ChunkError::Ragged { tokens: 8, context: 0 })
        );
    }
}
