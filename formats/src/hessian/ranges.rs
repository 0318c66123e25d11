//! Bookkeeping of the blocks of text that a sum covers.

use std::collections::BTreeMap;

/// Blocks `first..end` of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockRange {
    /// First block.
    pub first: u64,
    /// Block after the last.
    pub end: u64,
}

/// Blocks of several texts, which are identified by the SHA-256 of their bytes in hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Ranges of each text, sorted, disjoint, not adjacent and not empty.
    by_text: BTreeMap<String, Vec<BlockRange>>,
}

/// The error for blocks that would be counted twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("blocks {} to {} of the text with SHA-256 {text} are in it already", .range.first, .range.end - 1)]
pub struct Overlap {
    /// SHA-256 of the text in hexadecimal.
    pub text: String,
    /// First run of blocks that both sums have.
    pub range: BlockRange,
}

impl Blocks {
    /// Returns the blocks of `range` alone, or none if it is empty.
    pub fn of(text: &str, range: BlockRange) -> Self {
        let mut blocks = Self::default();
        if range.first < range.end {
            blocks.by_text.insert(text.to_owned(), vec![range]);
        }
        blocks
    }

    /// Returns the ranges of each text, sorted.
    pub fn by_text(&self) -> &BTreeMap<String, Vec<BlockRange>> {
        &self.by_text
    }

    /// Adds the blocks of `other`.
    ///
    /// # Errors
    /// Fails when a block of `other` is here already; nothing is changed then.
    pub fn add(&mut self, other: &Self) -> Result<(), Overlap> {
        let mut sum = self.clone();
        for (text, ranges) in &other.by_text {
            let known = sum.by_text.entry(text.clone()).or_default();
            known.extend(ranges);
            known.sort_unstable();
            if let Some(pair) = known.windows(2).find(|pair| pair[1].first < pair[0].end) {
                let range = BlockRange { first: pair[1].first, end: pair[0].end.min(pair[1].end) };
                return Err(Overlap { text: text.clone(), range });
            }
            known.dedup_by(|next, before| {
                let adjacent = next.first == before.end;
                if adjacent {
                    before.end = next.end;
                }
                adjacent
            });
        }
        *self = sum;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str, ranges: &[[u64; 2]]) -> Blocks {
        let mut sum = Blocks::default();
        for &[first, end] in ranges {
            let added = sum.add(&Blocks::of(text, BlockRange { first, end }));
            assert_eq!(added, Ok(()), "{text} {first}..{end}");
        }
        sum
    }

    #[test]
    fn neighbours_become_one_range() {
        assert_eq!(blocks("a", &[[4, 6], [0, 2], [2, 4]]), blocks("a", &[[0, 6]]));
        assert_ne!(blocks("a", &[[0, 2], [3, 4]]), blocks("a", &[[0, 4]]));
        assert!(blocks("a", &[[3, 3]]).by_text().is_empty());
    }

    #[test]
    fn the_same_block_is_refused() {
        let mut sum = blocks("a", &[[0, 4], [6, 9]]);
        let before = sum.clone();
        for (range, expected) in [([3, 5], [3, 4]), ([0, 4], [0, 4]), ([5, 7], [6, 7]), ([7, 8], [7, 8])] {
            let overlap = sum.add(&blocks("a", &[range])).unwrap_err();
            assert_eq!((overlap.range.first, overlap.range.end), (expected[0], expected[1]), "{range:?}");
            assert_eq!(sum, before);
        }
        assert_eq!(sum.add(&blocks("b", &[[0, 4]])), Ok(()), "of another text");
    }
}
