//! Two texts as one.

use super::{ChunkError, Chunks, chunks_per_block, is_held_out};

/// Mixes the chunks of two texts, block by block. The blocks that are held out and the others each hold `first` and
/// `second` in their proportion, as nearly as whole blocks can, so that what is judged by the one is judged by both texts.
///
/// # Errors
/// Fails when the chunks are not of one length.
pub fn mixed(first: &Chunks, second: &Chunks) -> Result<Chunks, ChunkError> {
    let context = first.context();
    if second.context() != context {
        return Err(ChunkError::Ragged { tokens: second.context(), context });
    }
    let (per_block, total) = (chunks_per_block(context), first.len() + second.len());
    let blocks = total.div_ceil(per_block);
    let mut all = Chunks { context, tokens: Vec::new(), text: Vec::new() };
    let mut taken = Taken::default();
    // Chunks of the blocks so far and how many of them are of the second text: of blocks that are not held out, and of those
    // that are.
    let mut halves = [(0, 0); 2];
    for block in 0..blocks {
        let count = per_block.min(total - block * per_block);
        let (before, of_second) = &mut halves[usize::from(is_held_out(block, blocks))];
        // The middle of the block decides which text is behind its proportion.
        let second_is_due = (2 * *of_second + count) * total <= 2 * (*before + count) * second.len();
        let left = [first.len() - taken.first, second.len() - taken.second];
        let from_second = match second_is_due {
            true => count.min(left[1]),
            false => count - count.min(left[0]),
        };
        taken.append(&mut all, (first, count - from_second), (second, from_second));
        (*before, *of_second) = (*before + count, *of_second + from_second);
    }
    Ok(all)
}

/// Numbers of chunks that a mixture has taken from each of its texts.
#[derive(Default)]
struct Taken {
    first: usize,
    second: usize,
}

impl Taken {
    /// Appends the next chunks of each text to `all`.
    fn append(&mut self, all: &mut Chunks, first: (&Chunks, usize), second: (&Chunks, usize)) {
        for ((text, count), start) in [(first, &mut self.first), (second, &mut self.second)] {
            let next = text.some(*start..*start + count);
            all.tokens.extend(next.tokens);
            all.text.extend(next.text);
            *start += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(count: usize, context: usize, token: u32) -> Chunks {
        let text = (0..count * context).map(|i| token + (i / context) as u32).collect();
        Chunks::recorded(text, context, None, None).unwrap()
    }

    /// Numbers of chunks of the second text among those that are not held out, and among those that are.
    fn of_second(mixture: &Chunks) -> [(usize, usize); 2] {
        let per_block = chunks_per_block(mixture.context());
        let blocks = mixture.len().div_ceil(per_block);
        let mut halves = [(0, 0); 2];
        for i in 0..mixture.len() {
            let (all, second) = &mut halves[usize::from(is_held_out(i / per_block, blocks))];
            *all += 1;
            *second += usize::from(mixture.chunk(i)[0] >= 1_000_000);
        }
        halves
    }

    #[test]
    fn both_halves_hold_both_texts_in_proportion() {
        for (first, second, context) in [(256, 256, 256), (384, 128, 256), (32, 96, 512), (100, 37, 128)] {
            let mixture = mixed(&chunks(first, context, 0), &chunks(second, context, 1_000_000)).unwrap();
            assert_eq!(mixture.len(), first + second);
            let share = second as f64 / (first + second) as f64;
            for (all, of_second) in of_second(&mixture) {
                let off = (of_second as f64 - share * all as f64).abs();
                assert!(off <= chunks_per_block(context) as f64, "{of_second} of {all} for {share}");
            }
        }
    }

    #[test]
    fn every_chunk_is_taken_once_and_in_order() {
        let (first, second) = (chunks(21, 200, 0), chunks(10, 200, 1_000_000));
        let mixture = mixed(&first, &second).unwrap();
        let of = |is_second: bool| -> Vec<u32> {
            let all = (0..mixture.len()).map(|i| mixture.chunk(i)[0]);
            all.filter(|&token| (token >= 1_000_000) == is_second).collect()
        };
        assert_eq!(of(false), (0..21).collect::<Vec<_>>());
        assert_eq!(of(true), (1_000_000..1_000_010).collect::<Vec<_>>());
    }

    #[test]
    fn lengths_of_chunks_must_agree() {
        let error = mixed(&chunks(2, 128, 0), &chunks(2, 64, 0)).unwrap_err();
        assert_eq!(error, ChunkError::Ragged { tokens: 64, context: 128 });
    }
}
