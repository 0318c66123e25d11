//! The rounding of activations in stock llama.cpp, which rounds them before each product to the type that suits the
//! weights. The forward pass uses it to measure a file as llama.cpp will run it.
//!
//! Source: ggml's `vec_dot_type` of each type and its `quantize_row_q8_0`, `quantize_row_q8_K` (x86-64).

use half::{bf16, f16};

use crate::block::BlockType;
use crate::block::fit::integer::nearest_int;
use crate::block::fit::signed_extreme;

/// The type to which activations are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Activations stay f32.
    Exact,
    /// Activations are rounded to f16.
    F16,
    /// Activations are rounded to bf16.
    Bf16,
    /// Activations are rounded to 8 bits with an f16 scale per 32.
    Q8_0,
    /// Activations are rounded to 8 bits with an f32 scale per 256.
    Q8K,
}

impl Rounding {
    /// Returns the rounding that llama.cpp's CPU backend applies for weights of type `block`.
    pub fn of(block: &BlockType) -> Self {
        match (block.name, block.elements) {
            ("F16", _) => Self::F16,
            ("BF16", _) => Self::Bf16,
            (_, 256) => Self::Q8K,
            (_, 1) => Self::Exact,
            _ => Self::Q8_0,
        }
    }

    /// Rounds `x` in place: `[rows][columns]`, where columns are a whole number of the rounding's 32 or 256.
    pub fn apply(self, x: &mut [f32]) {
        match self {
            Self::Exact => {}
            Self::F16 => x.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
            Self::Bf16 => x.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
            Self::Q8_0 => x.chunks_mut(32).for_each(round_q8_0),
            Self::Q8K => x.chunks_mut(256).for_each(round_q8_k),
        }
    }
}

fn round_q8_0(block: &mut [f32]) {
    let max = block.iter().fold(0f32, |max, x| max.max(x.abs()));
    let scale = f16::from_f32(max / 127.0).to_f32();
    let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
    block.iter_mut().for_each(|x| *x = scale * (*x * inverse).round_ties_even());
}

fn round_q8_k(block: &mut [f32]) {
    // The element of largest magnitude gets the code -127, so that the scale takes its sign.
    let max = signed_extreme(block);
    if max == 0.0 {
        return block.fill(0.0);
    }
    let inverse = -127.0 / max;
    let scale = 1.0 / inverse;
    block.iter_mut().for_each(|x| *x = scale * nearest_int(inverse * *x).min(127) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::by_name;

    #[test]
    fn the_rounding_follows_the_weights() {
        for (name, rounding) in [
            ("F32", Rounding::Exact),
            ("F16", Rounding::F16),
            ("BF16", Rounding::Bf16),
            ("Q4_0", Rounding::Q8_0),
            ("MXFP4", Rounding::Q8_0),
            ("Q4_K", Rounding::Q8K),
            ("IQ4_XS", Rounding::Q8K),
        ] {
            assert_eq!(Rounding::of(by_name(name).unwrap()), rounding, "{name}");
        }
    }

    #[test]
    fn eight_bits_keep_the_extremes() {
        let mut x: Vec<f32> = (0..256).map(|i| (i as f32 - 100.0) / 50.0).collect();
        let exact = x.clone();
        Rounding::Q8K.apply(&mut x);
        assert_eq!(x[255], exact[255]);
        assert!(x.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= 3.1 / 127.0 / 2.0 + 1e-6));
        let mut y = exact[..32].to_vec();
        Rounding::Q8_0.apply(&mut y);
        assert!(y.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= 2.0 / 127.0 / 2.0 + 2e-3));
        let mut zeros = [0.0; 256];
        Rounding::Q8K.apply(&mut zeros);
        assert_eq!(zeros, [0.0; 256]);
    }
}
