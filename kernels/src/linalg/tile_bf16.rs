//! The inner loop of products in bf16, on pairs of inputs: the first one in the high half of a u32, the second one in
//! the low half.

use super::PANEL;
use super::blocked::Arithmetic;
use super::tile::tile_on;
use crate::isa::{Isa, Level};

/// Arithmetic in bf16 with sums in f32. Only detection makes a value with the instruction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bf16(Bf16Path);

#[derive(Debug, Clone, Copy)]
enum Bf16Path {
    /// The halves of the pairs are widened to f32.
    Fma(Isa),
    /// The instruction `vdpbf16ps` takes the pairs.
    #[cfg(target_arch = "x86_64")]
    Instruction,
}

impl Bf16 {
    /// Returns the fastest arithmetic that the instruction set in use allows.
    pub(super) fn current() -> Self {
        Self::of(Isa::current())
    }

    fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        if isa.level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16") {
            return Self(Bf16Path::Instruction);
        }
        Self(Bf16Path::Fma(isa))
    }

    /// Returns all arithmetics of this machine, for tests that compare them.
    #[cfg(test)]
    pub(super) fn available() -> Vec<Self> {
        let widened = Isa::available().into_iter().map(|isa| Self(Bf16Path::Fma(isa)));
        widened.chain([Self::of(Isa::best())]).collect()
    }
}

impl Arithmetic for Bf16 {
    type Element = u32;

    fn prepare(&self, _: &mut [u32]) {}

    fn tile<const M: usize>(&self, a: &[[u32; M]], b: &[[u32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
        match self.0 {
            Bf16Path::Fma(isa) => widened(isa, a, b, sums),
            // SAFETY: this variant is made only where the instruction was detected.
            #[cfg(target_arch = "x86_64")]
            Bf16Path::Instruction => unsafe { instruction(a, b, sums) },
        }
    }
}

/// Computes a tile by `vdpbf16ps`. As in f32, 12 x 32 sums take 24 of 32 registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn instruction<const M: usize>(a: &[[u32; M]], b: &[[u32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
    use std::arch::x86_64::{__m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_set1_epi32};
    use std::mem::transmute;

    // SAFETY: vectors are as large as the arrays, and any bits are valid in both.
    let vectors = |sums: &[f32; PANEL]| unsafe { transmute::<[f32; PANEL], [__m512; 2]>(*sums) };
    let mut kept = sums.each_ref().map(vectors);
    for (a, b) in a.iter().zip(b) {
        // SAFETY: vectors are as large as the arrays, and any bits are valid in both.
        let b = unsafe { transmute::<[u32; PANEL], [__m512bh; 2]>(*b) };
        for r in 0..M {
            // SAFETY: vectors are as large as the arrays, and any bits are valid in both.
            let a = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(a[r].cast_signed())) };
            kept[r] = [_mm512_dpbf16_ps(kept[r][0], a, b[0]), _mm512_dpbf16_ps(kept[r][1], a, b[1])];
        }
    }
    for (sums, kept) in sums.iter_mut().zip(kept) {
        // SAFETY: vectors are as large as the arrays, and any bits are valid in both.
        *sums = unsafe { transmute::<[__m512; 2], [f32; PANEL]>(kept) };
    }
}

/// Computes what the instruction computes, by the f32 products that every machine has.
fn widened<const M: usize>(isa: Isa, a: &[[u32; M]], b: &[[u32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
    /// The number of pairs at a time, such that both factors in f32 stay in the L1 cache.
    const PAIRS: usize = 64;
    let (mut wide_a, mut wide_b) = ([[0.0; M]; 2 * PAIRS], [[0.0; PANEL]; 2 * PAIRS]);
    for (a, b) in a.chunks(PAIRS).zip(b.chunks(PAIRS)) {
        widen(a, &mut wide_a);
        widen(b, &mut wide_b);
        tile_on(isa, &wide_a[..2 * a.len()], &wide_b[..2 * b.len()], sums);
    }
}

/// Widens `pairs` `[n][W]` to `out` `[2 n][W]`: a row of high halves, then a row of low halves, and so on.
fn widen<const W: usize>(pairs: &[[u32; W]], out: &mut [[f32; W]]) {
    for (out, pairs) in out.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        *out = [
            pairs.map(|pair| f32::from_bits(pair & 0xffff_0000)),
            pairs.map(|pair| f32::from_bits(pair << 16)),
        ];
    }
}
