//! The division of a text into parts that are calibrated separately and whose statistics are then added.

use std::ops::Range;
use std::str::FromStr;

use crate::text::{Chunks, block_tokens, chunks_per_block};

/// Part number `index` of `of` parts: of a text, or of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Number of the part, from 1.
    index: u64,
    of: u64,
}

/// The reason why a text has no such part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// The text of the option is not of the form `i/n`.
    #[error("`{0}` is no part: give its number and how many there are, like 2/8")]
    Form(String),
    /// There are more parts than blocks.
    #[error(
        "{of} parts are too many for a text of {blocks} blocks of {tokens} tokens; give a longer text or fewer parts (--part)"
    )]
    TooMany {
        /// Number of parts asked for.
        of: u64,
        /// Number of blocks of the text.
        blocks: u64,
        /// Number of tokens of each block.
        tokens: usize,
    },
}

impl Part {
    /// The part that is all of a text.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Returns the number of the part, from 1.
    pub fn number(self) -> u64 {
        self.index
    }

    /// Returns the number of parts.
    pub fn count(self) -> u64 {
        self.of
    }

    /// Returns the numbers of the blocks in this part of `chunks`, and the part's chunks.
    ///
    /// # Errors
    /// Fails when there are fewer blocks than parts.
    pub fn cut(self, chunks: &Chunks) -> Result<(Range<u64>, Chunks), PartError> {
        let per_block = chunks_per_block(chunks.context());
        let blocks = chunks.len().div_ceil(per_block) as u64;
        if self.of > blocks {
            let tokens = block_tokens(chunks.context());
            return Err(PartError::TooMany { of: self.of, blocks, tokens });
        }
        let bound = |parts: u64| (u128::from(parts) * u128::from(blocks) / u128::from(self.of)) as u64;
        let range = bound(self.index - 1)..bound(self.index);
        let some = chunks.some(range.start as usize * per_block..range.end as usize * per_block);
        Ok((range, some))
    }
}

impl FromStr for Part {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(PartError::Form(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_as_i_of_n() {
        assert_eq!("2/3".parse(), Ok(Part { index: 2, of: 3 }));
        for text in ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/2/3", "a/b"] {
            assert_eq!(text.parse::<Part>(), Err(PartError::Form(text.into())));
        }
    }

    #[test]
    fn parts_are_whole_blocks_and_make_up_the_text() {
        // A block has two chunks; the last has one.
        let text: Vec<u32> = (0..13 * 256).collect();
        let chunks = Chunks::new(text, 256, None, None).unwrap();
        for of in 1..=7 {
            let (mut next, mut tokens) = (0, Vec::new());
            for index in 1..=of {
                let (blocks, some) = Part { index, of }.cut(&chunks).unwrap();
                assert!(blocks.start == next && blocks.end > next, "{index} of {of}");
                assert_eq!(some.len() as u64, 2 * (blocks.end - blocks.start) - u64::from(blocks.end == 7));
                next = blocks.end;
                tokens.extend_from_slice(some.tokens());
            }
            assert_eq!(next, 7);
            assert_eq!(tokens, chunks.tokens());
        }
        let error = Part { index: 1, of: 8 }.cut(&chunks).unwrap_err();
        assert_eq!(error, PartError::TooMany { of: 8, blocks: 7, tokens: 512 });
    }
}
