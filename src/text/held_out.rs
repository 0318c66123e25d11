//! The blocks of a text that nothing is calibrated on, by which choices are judged.

/// Number of blocks of text of which one is held out.
pub(crate) const HELD_OUT_EVERY: u32 = 8;

/// Returns true if block `block` of `blocks` blocks of text is held out: the last of every eight, or the last of fewer.
///
/// A statistics file is added up from parts, none of which knows the number of all blocks, so that in files of fewer than
/// eight blocks nothing is held out.
pub(crate) fn is_held_out(block: usize, blocks: usize) -> bool {
    let every = (HELD_OUT_EVERY as usize).min(blocks);
    every > 1 && block % every == every - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_of_eight_is_held_out() {
        let held = |blocks: usize| (0..blocks).filter(|&b| is_held_out(b, blocks)).collect::<Vec<_>>();
        assert_eq!(held(1), [0; 0]);
        assert_eq!(held(2), [1]);
        assert_eq!(held(5), [4]);
        assert_eq!(held(17), [7, 15]);
    }
}
