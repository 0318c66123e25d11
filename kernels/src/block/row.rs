//! A row cut into blocks, for the encoders that search.

use crate::lanes::{Lanes, MOST};

/// Blocks that an encoder gets at once: one for every lane of the widest vector.
pub(super) const AT_ONCE: usize = MOST;

/// The encoder of a type, for up to [`AT_ONCE`] blocks. A trait and not two functions in arguments: the compiler would not
/// compile those with their caller, for its instruction set.
pub(super) trait EncodeBlocks<Block, const BYTES: usize> {
    /// Without importance.
    fn plain<V: Lanes>(x: &[Block], out: &mut [[u8; BYTES]]);

    /// With the importance of each weight.
    fn weighted<V: Lanes>(x: &[Block], importance: &[Block], out: &mut [[u8; BYTES]]);
}

/// Encodes a row, cut into blocks, as the type `T`.
#[inline(always)]
pub(super) fn encode_row<V, T, Block, const BYTES: usize>(
    x: &[Block],
    importance: Option<&[Block]>,
    out: &mut [u8],
) where
    V: Lanes,
    T: EncodeBlocks<Block, BYTES>,
{
    let blocks = x.chunks(AT_ONCE).zip(out.as_chunks_mut().0.chunks_mut(AT_ONCE));
    match importance {
        None => {
            for (x, out) in blocks {
                T::plain::<V>(x, out);
            }
        }
        Some(importance) => {
            for ((x, out), importance) in blocks.zip(importance.chunks(AT_ONCE)) {
                T::weighted::<V>(x, importance, out);
            }
        }
    }
}

/// A row cut into blocks of `N` weights.
#[inline(always)]
pub(super) fn blocks<const N: usize>(row: &[f32]) -> &[[f32; N]] {
    row.as_chunks().0
}

/// The blocks of a row, each with its bytes.
#[inline(always)]
pub(super) fn blocks_and_bytes<'a, const N: usize, const BYTES: usize>(
    row: &'a [f32],
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; N], &'a mut [u8; BYTES])> {
    blocks(row).iter().zip(out.as_chunks_mut().0)
}

/// A row cut into superblocks of `G` groups of `N` weights.
#[inline(always)]
pub(super) fn superblocks<const G: usize, const N: usize>(row: &[f32]) -> &[[[f32; N]; G]] {
    row.as_chunks().0.as_chunks().0
}

/// The numbers of the first group of each turn, when as many groups as there are lanes take turns.
#[inline(always)]
pub(super) fn turns<V: Lanes>(groups: usize) -> impl Iterator<Item = usize> {
    (0..groups).step_by(V::LANES)
}

/// Superblocks with their importance, which there is for all or for none.
#[inline(always)]
pub(super) fn with_importance<'a, const G: usize, const N: usize>(
    row: &'a [f32],
    importance: Option<&'a [f32]>,
) -> impl Iterator<Item = (&'a [[f32; N]; G], Option<&'a [[f32; N]; G]>)> {
    superblocks(row).iter().enumerate().map(move |(i, x)| (x, importance.map(|all| &superblocks(all)[i])))
}
