//! The encoder that searches where searching was found to make better models.

use kquant_kernels::block::BlockType;

use super::guarded::Guarded;
use super::search::Search;
use super::{Encoder, Rows};

/// Types whose files `search` made better, by KL divergence in stock llama.cpp with importance, on both models measured
/// (docs/results.md, "Without feedback"). Less weighted error is not always a better model: with fewer bits one of the models got worse.
const SEARCHED: &[&str] = &["Q4_1", "Q5_0", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"];

/// The encoder that calls `search` for the types in [`SEARCHED`] and `guarded` for all others.
#[derive(Debug)]
pub(super) struct Auto;

impl Auto {
    fn of(block: &BlockType) -> &'static dyn Encoder {
        if SEARCHED.contains(&block.name) { &Search } else { &Guarded }
    }
}

impl Encoder for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn about(&self) -> &'static str {
        "search for Q4_1, Q5_0, Q5_K, Q6_K, IQ4_NL and IQ4_XS, which it was found to make better, guarded for the others"
    }

    fn pools_experts(&self) -> bool {
        true
    }

    fn prepare_importance(&self, importance: &[f32], columns: usize) -> Vec<f32> {
        Guarded.prepare_importance(importance, columns)
    }

    fn encode(&self, block: &BlockType, rows: Rows<'_>, importance: Option<&[f32]>, out: &mut [u8]) {
        Self::of(block).encode(block, rows, importance, out);
    }
}

#[cfg(test)]
mod tests {
    use kquant_kernels::block::{TYPES, by_name};

    use super::*;

    #[test]
    fn the_type_decides() {
        let weights: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) / 30.0).collect();
        let importance: Vec<f32> = (0..512).map(|i| (i % 7) as f32 + 0.5).collect();
        let rows = Rows { weights: &weights, columns: 512 };
        let encoded = |encoder: &dyn Encoder, block: &BlockType| {
            let mut out = vec![0; 512 / block.elements * block.bytes];
            encoder.encode(block, rows, Some(&importance), &mut out);
            out
        };
        for block in TYPES.iter().filter(|block| block.quantized && block.encode.is_some()) {
            let other: &dyn Encoder = if SEARCHED.contains(&block.name) { &Search } else { &Guarded };
            assert_eq!(encoded(&Auto, block), encoded(other, block), "{}", block.name);
        }
        assert!(SEARCHED.iter().all(|name| by_name(name).is_some()));
        assert!(SEARCHED.iter().all(|name| Auto.about().contains(name)));
    }
}
