//! The division of rows among threads, which depends on the text alone, never on the number of threads.

use rayon::prelude::*;

/// Number of rows that one task takes through a linear map: enough to spread the cost of packing the weights.
pub(crate) const BLOCK_ROWS: usize = 512;

/// Number of rows that one task takes where each row is the next token of another text: few, so that one step of some
/// hundred texts occupies all threads.
const STEP_ROWS: usize = 64;

/// Returns the number of chunks of `context` tokens that make up at least one block.
pub fn chunks_per_block(context: usize) -> usize {
    (BLOCK_ROWS / context).max(1)
}

/// Returns the number of tokens of a block of text, which is summed in one go and is the unit of [`crate::text::Part`].
pub fn block_tokens(context: usize) -> usize {
    chunks_per_block(context) * context
}

/// Returns the lengths of the blocks of a tile of `rows` rows: whole chunks if they are short, equal parts of a chunk if
/// they are long.
///
/// Chunks of one token are steps of a generation and are cut smaller; rows are independent in linear maps, so that no
/// bit depends on the cut.
fn cut(rows: usize, context: usize) -> Vec<usize> {
    if context == 1 {
        let whole = std::iter::repeat_n(STEP_ROWS, rows / STEP_ROWS);
        return whole.chain(Some(rows % STEP_ROWS).filter(|&rest| rest > 0)).collect();
    }
    let unit = block_tokens(context);
    let parts = unit.div_ceil(BLOCK_ROWS);
    let part = unit.div_ceil(parts);
    let mut lengths = Vec::new();
    let mut done = 0;
    while done < rows {
        let in_unit = done % unit;
        let length = part.min(unit - in_unit).min(rows - done);
        lengths.push(length);
        done += length;
    }
    lengths
}

/// Calls `f` with matching blocks of `x` (`[rows][x_width]`) and `y` (`[rows][y_width]`), in parallel.
pub(crate) fn for_blocks(
    context: usize,
    (x, x_width): (&[f32], usize),
    (y, y_width): (&mut [f32], usize),
    f: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let mut pairs = Vec::new();
    let (mut x, mut y) = (x, y);
    for rows in cut(x.len() / x_width, context) {
        let (x_block, x_rest) = x.split_at(rows * x_width);
        let (y_block, y_rest) = y.split_at_mut(rows * y_width);
        pairs.push((x_block, y_block));
        (x, y) = (x_rest, y_rest);
    }
    pairs.into_par_iter().for_each(|(x, y)| f(x, y));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_the_rows_and_respect_chunks() {
        assert_eq!(cut(1024, 256), [512, 512]);
        assert_eq!(cut(600, 200), [400, 200]);
        assert_eq!(cut(2600, 1300), [434, 434, 432, 434, 434, 432]);
        assert_eq!(cut(512, 512), [512]);
        assert_eq!(cut(7, 256), [7]);
        assert_eq!(cut(150, 1), [64, 64, 22]);
    }

    #[test]
    fn blocks_match() {
        let x: Vec<f32> = (0..600).map(|i| i as f32).collect();
        let mut y = vec![0.0; 1200];
        for_blocks(200, (&x, 1), (&mut y, 2), |x, y| {
            for (x, y) in x.iter().zip(y.chunks_exact_mut(2)) {
                y.fill(*x);
            }
        });
        assert!(y.chunks_exact(2).zip(&x).all(|(y, x)| y == [*x, *x]));
    }
}
