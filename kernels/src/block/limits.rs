//! Which weights a type can hold, and how a block shows that it was given others.
//!
//! Scales are narrower than weights: past the range of the scale an encoder writes an infinite one, or the largest there is and
//! weights that are too small. Both are found at the price of a comparison per weight and a look at each block's scales.

/// Halfway from the largest f16, 65504, to where the next would be: from here on a number rounds to infinity.
pub(crate) const PAST_F16: f32 = 65520.0;

/// Exponent of an f16 field: all bits set for infinity and NaN.
const EXPONENT: u16 = 0x7c00;

/// The range of a type.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A weight that is not above this is too low.
    pub low: f32,
    /// A weight that is not below this is too high.
    pub high: f32,
    /// Number of the first block of a whole number of blocks whose scale is infinite or NaN.
    pub overflowed: fn(blocks: &[u8]) -> Option<usize>,
}

impl Limits {
    /// Any finite f32.
    pub(super) const ANY: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY, overflowed: |_| None };

    /// Plain numbers that are nearest to weights of magnitudes below `past`.
    pub(super) const fn plain(past: f32) -> Self {
        Self { low: -past, high: past, overflowed: |_| None }
    }

    /// Blocks of `BYTES` bytes with an f16 scale at byte `D`, which hold weights of up to `most` times the scale.
    pub(super) const fn scaled<const BYTES: usize, const D: usize>(most: f32) -> Self {
        let past = PAST_F16 * most;
        Self { low: -past, high: past, overflowed: overflowed::<BYTES, D, D> }
    }

    /// Blocks of `BYTES` bytes with an f16 scale at byte `D` and an f16 offset at byte `M`, which hold weights from `least` times
    /// the offset below zero up to `most` times the scale above it.
    pub(super) const fn offset<const BYTES: usize, const D: usize, const M: usize>(
        least: f32,
        most: f32,
    ) -> Self {
        Self { low: -PAST_F16 * least, high: PAST_F16 * most, overflowed: overflowed::<BYTES, D, M> }
    }

    /// Whether a weight is finite and in the range.
    #[inline(always)]
    pub fn holds(&self, weight: f32) -> bool {
        weight > self.low && weight < self.high
    }
}

/// The first block of `BYTES` bytes of which an f16 field at byte `A` or `B` is infinite or NaN.
fn overflowed<const BYTES: usize, const A: usize, const B: usize>(blocks: &[u8]) -> Option<usize> {
    let odd = |block: &[u8; BYTES], at: usize| is_odd(u16::from_le_bytes([block[at], block[at + 1]]));
    blocks.as_chunks::<BYTES>().0.iter().position(|block| odd(block, A) || odd(block, B))
}

/// Whether an f16 field is infinite or NaN.
#[inline(always)]
pub(super) fn is_odd(field: u16) -> bool {
    field & EXPONENT == EXPONENT
}
