//! A row cut into blocks, for the encoders that take an importance vector.

/// Runs the encoder of one block, `plain` or `weighted`, over a row; `split` cuts weights and importance into blocks.
pub(super) fn encode_row<'a, Block: 'a, const BYTES: usize>(
    row: &'a [f32],
    importance: Option<&'a [f32]>,
    out: &mut [u8],
    split: impl Fn(&'a [f32]) -> &'a [Block],
    plain: impl Fn(&Block, &mut [u8; BYTES]),
    weighted: impl Fn(&Block, &Block, &mut [u8; BYTES]),
) {
    let blocks = split(row).iter().zip(out.as_chunks_mut().0);
    match importance {
        None => blocks.for_each(|(x, out)| plain(x, out)),
        Some(importance) => {
            blocks.zip(split(importance)).for_each(|((x, out), importance)| weighted(x, importance, out));
        }
    }
}

/// A row cut into blocks of `N` weights.
pub(super) fn blocks<const N: usize>(row: &[f32]) -> &[[f32; N]] {
    row.as_chunks().0
}

/// A row cut into superblocks of `G` groups of `N` weights.
pub(super) fn superblocks<const G: usize, const N: usize>(row: &[f32]) -> &[[[f32; N]; G]] {
    row.as_chunks().0.as_chunks().0
}
