//! SentencePiece's compiled replacements of characters (`precompiled_charsmap`).
//!
//! The layout is four bytes with the size of a trie, the trie, then the replacements, each ended by a zero byte. The trie
//! is a double array in Darts' layout: a 32-bit unit holds the label of the byte that leads to it (bits 0 to 7, and bit
//! 31 for values), whether a text ends there (bit 8), and the offset of its children (bits 10 to 30, in steps of 256 if
//! bit 9 is set). <https://github.com/s-yata/darts-clone>

/// Replacements of texts by others, of which the longest match applies.
#[derive(Debug)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    /// The replacements, each ended by a zero byte.
    texts: String,
}

impl Charsmap {
    /// Parses the bytes of a compiled map.
    ///
    /// # Errors
    /// Fails with a description of what is wrong.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Err("is cut short") };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((trie, texts)) = rest.split_at_checked(length) else { return Err("is cut short") };
        let (units, odd) = trie.as_chunks::<4>();
        if units.is_empty() || !odd.is_empty() {
            return Err("has a trie of no whole number of units");
        }
        if texts.last() != Some(&0) {
            return Err("has a replacement without an end");
        }
        let Ok(texts) = std::str::from_utf8(texts) else { return Err("has a replacement that is not UTF-8") };
        Ok(Self { units: units.iter().copied().map(u32::from_le_bytes).collect(), texts: texts.to_owned() })
    }

    /// Returns the length of the longest prefix of `text` that has a replacement, and the replacement.
    pub(super) fn longest(&self, text: &[u8]) -> Option<(usize, &str)> {
        let mut found = None;
        let mut node = offset(*self.units.first()?);
        for (at, &byte) in text.iter().enumerate() {
            node ^= usize::from(byte);
            let Some(&unit) =
                self.units.get(node).filter(|&&unit| byte != 0 && label(unit) == u32::from(byte))
            else {
                break;
            };
            node ^= offset(unit);
            if unit >> 8 & 1 == 1
                && let Some(replacement) =
                    self.units.get(node).and_then(|&unit| self.text(unit & 0x7fff_ffff))
            {
                found = Some((at + 1, replacement));
            }
        }
        found
    }

    /// Returns the replacement at `start`, up to its zero byte.
    fn text(&self, start: u32) -> Option<&str> {
        self.texts.get(usize::try_from(start).ok()?..)?.split('\0').next()
    }
}

fn label(unit: u32) -> u32 {
    unit & 0x8000_00ff
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::Charsmap;

    #[test]
    fn damaged_maps_are_refused() {
        let unit = [1, 0, 0, 0];
        for (bytes, what) in [
            (vec![1, 0, 0], "is cut short"),
            ([&[8, 0, 0, 0], &unit[..]].concat(), "is cut short"),
            ([&[2, 0, 0, 0], &unit[..]].concat(), "has a trie of no whole number of units"),
            ([&[4, 0, 0, 0], &unit[..], b"a"].concat(), "has a replacement without an end"),
            ([&[4, 0, 0, 0], &unit[..], b"\xff\0"].concat(), "has a replacement that is not UTF-8"),
        ] {
            assert_eq!(Charsmap::parse(&bytes).expect_err("must be refused"), what);
        }
    }

    #[test]
    fn a_trie_that_leads_nowhere_replaces_nothing() {
        for unit in [0u32, 0x0000_0161, 0xffff_ffff, 0x7fff_ff61] {
            let bytes = [&4u32.to_le_bytes()[..], &unit.to_le_bytes(), b"x\0"].concat();
            assert_eq!(Charsmap::parse(&bytes).unwrap().longest(b"aaa"), None);
        }
    }
}
