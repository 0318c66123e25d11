//! The linear layer in bf16 with sums in f32, which is twice as fast as f32 where the processor has the instruction.
//! It is an option and not the default, because it rounds activations and weights.
//!
//! Values under 2^-56 in magnitude become 0; all others are rounded to bf16, to the nearest with ties to even. The
//! sums are those of [`linear_packed`](super::linear_packed) of the rounded numbers, to the bit and on every machine.
//! Products of two bf16 are exact in f32. The instruction `vdpbf16ps` adds first the product of the high halves of
//! its pairs, then that of the low halves, and rounds to the nearest each time, so that the first input of a pair
//! goes to the high half. It takes subnormal numbers for 0, but all products are multiples of 2^-126, so that there
//! are none.
//!
//! Source: VDPBF16PS in the Intel 64 and IA-32 Architectures Software Developer's Manual, and 20 million random pairs
//! and accumulators: sums of the pair first, the other order, or one rounding at the end agree in 88 to 91 % only.
//!
//! An importance matrix made by these products strays by up to 0.6 % per column from llama-imatrix's, one made in f32
//! by 0.04 %. With 4 rows or more the products reach 196 to 223 GFLOP/s, with one row 76.

use std::ops::Range;

use super::PANEL;
use super::blocked::{BlockedProduct, Panels};
use super::packed::check;
use super::tile_bf16::Bf16;
use super::view::{View, ViewMut};
use crate::isa::per_isa;

/// Weights of a linear layer in bf16, in panels `[outputs / 32][inputs / 2][32]` of pairs of inputs, the last one
/// padded with zeros.
#[derive(Debug, Clone)]
pub struct PackedBf16 {
    pairs: Vec<[u32; PANEL]>,
    inputs: usize,
    outputs: usize,
}

impl PackedBf16 {
    /// Makes weights that are all zero, so that [`pack_bf16`] can fill parts of [`panels_mut`](Self::panels_mut).
    pub fn zeroed(inputs: usize, outputs: usize) -> Self {
        Self { pairs: vec![[0; PANEL]; outputs.div_ceil(PANEL) * inputs.div_ceil(2)], inputs, outputs }
    }

    /// Rounds and packs the weights `w` `[outputs][inputs]`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn new(w: &[f32], inputs: usize, outputs: usize) -> Self {
        assert!(w.len() == inputs * outputs, "{} weights are not {outputs} rows of {inputs}", w.len());
        let mut packed = Self::zeroed(inputs, outputs);
        pack_bf16(&mut packed.pairs, w, inputs);
        packed
    }

    /// Returns the number of inputs, which is the length of the rows that enter.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the number of outputs, which is the length of the rows that leave.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the panels, `[inputs / 2][32]` each, where the half is rounded up.
    pub fn panels_mut(&mut self) -> &mut [[u32; PANEL]] {
        &mut self.pairs
    }

    /// Writes panel `panel` of the transposed weights, `[outputs / 2][32]`, where the half is rounded up. The
    /// backward pass multiplies gradients by these.
    pub fn transpose_panel(&self, panel: usize, out: &mut [[u32; PANEL]]) {
        const HIGH: u32 = 0xffff_0000;
        let (first, pairs) = (panel * PANEL, self.inputs.div_ceil(2));
        for (outputs, out) in out.chunks_mut(PANEL / 2).enumerate() {
            for input in first..self.inputs.min(first + PANEL) {
                let weights = &self.pairs[outputs * pairs + input / 2];
                let weight = |pair: u32| if input % 2 == 0 { pair & HIGH } else { pair << 16 };
                for (out, &[one, next]) in out.iter_mut().zip(weights.as_chunks::<2>().0) {
                    out[input - first] = weight(one) | weight(next) >> 16;
                }
            }
        }
    }
}

impl Panels<u32> for PackedBf16 {
    fn panel<'a>(
        &'a self,
        panel: usize,
        pairs: Range<usize>,
        _: &'a mut Vec<[u32; PANEL]>,
    ) -> &'a [[u32; PANEL]] {
        &self.pairs[panel * self.inputs.div_ceil(2)..][pairs]
    }
}

/// Rounds and packs `rows` `[outputs][inputs]` into the panels that hold them, `[outputs / 32][inputs / 2][32]`.
///
/// # Panics
///
/// When there are more rows than the panels take.
pub fn pack_bf16(panels: &mut [[u32; PANEL]], rows: &[f32], inputs: usize) {
    if inputs == 0 {
        return;
    }
    let pairs = inputs.div_ceil(2);
    assert!(
        rows.len() / inputs <= panels.len() / pairs * PANEL,
        "{} weights exceed {} columns of pairs",
        rows.len(),
        panels.len()
    );
    let mut rounded = Vec::new();
    for (panel, rows) in panels.chunks_exact_mut(pairs).zip(rows.chunks(PANEL * inputs)) {
        rounded.resize(rows.len() / inputs * pairs, 0);
        round(&mut rounded, rows, inputs);
        View::row_major(&rounded, pairs).interleave(0, 0, panel);
    }
}

/// Computes the linear layer without bias in bf16, `y = x · wᵀ`, on one thread: `x` is `[rows][inputs]` and rounded
/// here, `y` is `[rows][outputs]`.
///
/// # Panics
///
/// When the lengths do not fit.
pub fn linear_packed_bf16(y: &mut [f32], x: &[f32], w: &PackedBf16) {
    linear_packed_bf16_on(Bf16::current(), y, x, w);
}

fn linear_packed_bf16_on(arithmetic: Bf16, y: &mut [f32], x: &[f32], w: &PackedBf16) {
    let (inputs, outputs) = (w.inputs, w.outputs);
    check(y, x, inputs, outputs);
    if inputs == 0 || outputs == 0 {
        return y.fill(0.0);
    }
    let pairs = inputs.div_ceil(2);
    let mut rounded = vec![0; x.len() / inputs * pairs];
    round(&mut rounded, x, inputs);
    let a = View::row_major(&rounded, pairs);
    BlockedProduct { arithmetic, a, b: w, beta: 0.0, upper: false }.write(ViewMut::row_major(y, outputs));
}

per_isa! {
    /// Rounds `rows` `[rows][columns]` to `out` `[rows][columns / 2]`, where the first of two numbers is in the high
    /// half. The last column of an odd number is paired with 0.
    fn round, round_on(out: &mut [u32], rows: &[f32], columns: usize) {
        for (out, row) in out.chunks_exact_mut(columns.div_ceil(2)).zip(rows.chunks_exact(columns)) {
            let (pairs, last) = row.as_chunks::<2>();
            for (out, &[first, second]) in out.iter_mut().zip(pairs) {
                *out = to_bf16(first) | to_bf16(second) >> 16;
            }
            if let (Some(out), &[last]) = (out.last_mut(), last) {
                *out = to_bf16(last);
            }
        }
    }
}

/// Returns the nearest bf16 in the high half; 0 for values under 2^-56 in magnitude.
#[inline(always)]
fn to_bf16(x: f32) -> u32 {
    /// The bits of 2^-56.
    const SMALLEST: u32 = (127 - 56) << 23;
    const INFINITY: u32 = 0x7f80_0000;
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let rounded = if magnitude > INFINITY { bits | 0x0040_0000 } else { nearest };
    if magnitude < SMALLEST { 0 } else { rounded & 0xffff_0000 }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::isa::Isa;
    use crate::linalg::blocked::INPUTS;
    use crate::linalg::tests::{bits, noise};
    use crate::linalg::{PackedWeights, linear_packed};

    /// Returns noise over many magnitudes, tiny ones and zeros among them.
    fn wild(len: usize, seed: usize) -> Vec<f32> {
        let scale = |i: usize| match (i * 31 + seed) % 41 {
            0 => 0.0,
            1 => 1e-17,
            2 => 1e-30,
            3 => 1e-40,
            e => 2f32.powi(e as i32 - 20),
        };
        noise(len, seed).into_iter().enumerate().map(|(i, x)| x * scale(i)).collect()
    }

    fn rounded(x: &[f32]) -> Vec<f32> {
        let round = |x: f32| if x.abs() < 2f32.powi(-56) { 0.0 } else { bf16::from_f32(x).to_f32() };
        x.iter().map(|&x| round(x)).collect()
    }

    #[test]
    fn the_product_of_the_rounded_numbers_on_every_instruction_set() {
        let small = (1..=40).map(|rows| (rows, rows * 29 % 70 + 1, rows * 43 % 70 + 1));
        for (rows, inputs, outputs) in small.chain([(13, 2 * INPUTS, 32), (18, 4 * INPUTS + 7, 65)]) {
            let (x, w) = (wild(rows * inputs, rows), wild(outputs * inputs, outputs));
            let mut expected = vec![f32::NAN; rows * outputs];
            linear_packed(&mut expected, &rounded(&x), &PackedWeights::new(&rounded(&w), inputs, outputs));
            let packed = PackedBf16::new(&w, inputs, outputs);
            for arithmetic in Bf16::available() {
                let mut y = vec![f32::NAN; rows * outputs];
                linear_packed_bf16_on(arithmetic, &mut y, &x, &packed);
                assert!(bits(&y) == bits(&expected), "{arithmetic:?} {rows}x{inputs}x{outputs}");
            }
        }
    }

    /// These sums end near the smallest normal number, below which the instruction would take numbers for 0.
    #[test]
    fn the_smallest_products_cancel_alike() {
        let tiny = |i: usize| 2f32.powi(-56) * (1.0 + (i % 128) as f32 / 128.0) * [1.0, -1.0][i % 2];
        let (x, w): (Vec<_>, Vec<_>) = (0..64).map(|i| (tiny(i * 7), tiny(i / 2 * 5).abs())).unzip();
        let exact: f64 = x.iter().zip(&w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
        assert!(exact != 0.0 && exact.abs() < 2f64.powi(-110));
        for arithmetic in Bf16::available() {
            let mut y = [f32::NAN];
            linear_packed_bf16_on(arithmetic, &mut y, &x, &PackedBf16::new(&w, 64, 1));
            assert_eq!(f64::from(y[0]), exact, "{arithmetic:?}");
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_keeps_what_is_no_number() {
        for isa in Isa::available() {
            for x in
                [0.1f32, -3.999, 1e38, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, 1.003_906_2, 1.011_718_8]
            {
                let mut out = [0];
                round_on(isa, &mut out, &[x], 1);
                assert_eq!(out[0], u32::from(bf16::from_f32(x).to_bits()) << 16, "{x}");
            }
            let mut out = [0; 2];
            round_on(isa, &mut out, &[f32::NAN, f32::from_bits(0xffff_ffff), 1e-20, -f32::MIN_POSITIVE], 2);
            let halves = [out[0] & 0xffff_0000, out[0] << 16].map(f32::from_bits);
            assert!(halves.iter().all(|x| x.is_nan()) && out[1] == 0, "{out:x?}");
        }
    }

    #[test]
    fn transposed_panels_are_those_of_the_transposed_weights() {
        for (inputs, outputs) in [(1, 1), (32, 64), (70, 45), (5, 101)] {
            let w = noise(outputs * inputs, 3);
            let turned: Vec<f32> =
                (0..inputs).flat_map(|i| w.iter().skip(i).step_by(inputs).copied()).collect();
            let packed = PackedBf16::new(&w, inputs, outputs);
            let mut transposed = PackedBf16::zeroed(outputs, inputs);
            for (i, panel) in transposed.panels_mut().chunks_mut(outputs.div_ceil(2)).enumerate() {
                packed.transpose_panel(i, panel);
            }
            assert!(
                transposed.pairs == PackedBf16::new(&turned, outputs, inputs).pairs,
                "{inputs} {outputs}"
            );
        }
    }

    #[test]
    fn panels_may_be_packed_apart() {
        let (inputs, outputs) = (131, 70);
        let w = noise(outputs * inputs, 3);
        let mut packed = PackedBf16::zeroed(inputs, outputs);
        for (panel, rows) in packed.panels_mut().chunks_mut(66).zip(w.chunks(PANEL * inputs)) {
            pack_bf16(panel, rows, inputs);
        }
        assert_eq!(packed.pairs, PackedBf16::new(&w, inputs, outputs).pairs);
    }
}
