//! Ways to cut a row into blocks and superblocks, for the encoders that put one group into each lane.

use crate::lanes::{MOST, Simd};

/// The `G` groups of `N` weights of one superblock.
pub(super) type Groups<const G: usize, const N: usize> = [[f32; N]; G];

/// The number of blocks that an encoder gets at once: one for every lane of the widest vector, so that the searches
/// over a superblock's scales fill the lanes too.
pub(super) const AT_ONCE: usize = MOST;

/// The encoder of a type, for up to [`AT_ONCE`] blocks. It is a trait because the compiler would not compile two
/// functions in arguments for the instruction set of their caller.
pub(super) trait EncodeBlocks<Block, const BYTES: usize> {
    /// Encodes blocks without importance.
    fn plain<V: Simd>(x: &[Block], out: &mut [[u8; BYTES]]);

    /// Encodes blocks with the importance of each weight.
    fn weighted<V: Simd>(x: &[Block], importance: &[Block], out: &mut [[u8; BYTES]]);
}

/// Encodes a row, cut into blocks, as the type `T`.
#[inline(always)]
pub(super) fn encode_row<V, T, Block, const BYTES: usize>(
    x: &[Block],
    importance: Option<&[Block]>,
    out: &mut [u8],
) where
    V: Simd,
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

/// Cuts a row into blocks of `N` weights.
#[inline(always)]
pub(super) fn blocks<const N: usize>(row: &[f32]) -> &[[f32; N]] {
    row.as_chunks().0
}

/// Pairs the blocks of a row with their bytes.
#[inline(always)]
pub(super) fn blocks_and_bytes<'a, const N: usize, const BYTES: usize>(
    row: &'a [f32],
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; N], &'a mut [u8; BYTES])> {
    blocks(row).iter().zip(out.as_chunks_mut().0)
}

/// Cuts a row into superblocks of `G` groups of `N` weights.
#[inline(always)]
pub(super) fn superblocks<const G: usize, const N: usize>(row: &[f32]) -> &[[[f32; N]; G]] {
    row.as_chunks().0.as_chunks().0
}

/// Returns the index of the first group of each vector, when `groups` groups are put into vectors one after the other.
#[inline(always)]
pub(super) fn vector_starts<V: Simd>(groups: usize) -> impl Iterator<Item = usize> {
    (0..groups).step_by(V::WIDTH)
}

/// Pairs the superblocks of a row with their importance, if there is one.
#[inline(always)]
pub(super) fn with_importance<'a, const G: usize, const N: usize>(
    row: &'a [f32],
    importance: Option<&'a [f32]>,
) -> impl Iterator<Item = (&'a [[f32; N]; G], Option<&'a [[f32; N]; G]>)> {
    superblocks(row).iter().enumerate().map(move |(i, x)| (x, importance.map(|all| &superblocks(all)[i])))
}
