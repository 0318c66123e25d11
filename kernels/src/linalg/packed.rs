//! The linear layer on weights that are packed once and used for many rows.
//!
//! The sums are those of [`gemm`](super::gemm()), one chain per element. With 512 rows it reaches 106 to 109 GFLOP/s
//! on one core whose peak is 117, with one row 33 to 48.

use std::ops::Range;

use super::PANEL;
use super::blocked::{BlockedProduct, F32, Panels};
use super::view::{View, ViewMut};
use crate::isa::Isa;

/// Weights of a linear layer in panels, `[outputs / 32][inputs][32]`, the last one padded with zeros.
#[derive(Debug, Clone)]
pub struct PackedWeights {
    columns: Vec<[f32; PANEL]>,
    inputs: usize,
    outputs: usize,
}

impl PackedWeights {
    /// Makes weights that are all zero, so that [`pack`] can fill parts of [`panels_mut`](Self::panels_mut).
    pub fn zeroed(inputs: usize, outputs: usize) -> Self {
        Self { columns: vec![[0.0; PANEL]; outputs.div_ceil(PANEL) * inputs], inputs, outputs }
    }

    /// Packs the weights `w` `[outputs][inputs]`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn new(w: &[f32], inputs: usize, outputs: usize) -> Self {
        assert!(w.len() == inputs * outputs, "{} weights are not {outputs} rows of {inputs}", w.len());
        let mut packed = Self::zeroed(inputs, outputs);
        pack(&mut packed.columns, w, inputs);
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

    /// Returns the panels, `[inputs][32]` each.
    pub fn panels_mut(&mut self) -> &mut [[f32; PANEL]] {
        &mut self.columns
    }

    /// Writes panel `panel` of the transposed weights, `[outputs][32]`. The backward pass multiplies gradients by
    /// these.
    pub fn transpose_panel(&self, panel: usize, out: &mut [[f32; PANEL]]) {
        let first = panel * PANEL;
        let inputs = first..self.inputs.min(first + PANEL);
        for (outputs, out) in out.chunks_mut(PANEL).enumerate() {
            for (lane, column) in self.columns[outputs * self.inputs..][inputs.clone()].iter().enumerate() {
                out.iter_mut().zip(column).for_each(|(out, weight)| out[lane] = *weight);
            }
        }
    }
}

/// Packs `rows` `[outputs][inputs]` into the panels that hold them, `[outputs / 32][inputs][32]`.
///
/// # Panics
///
/// When there are more rows than the panels take.
pub fn pack(panels: &mut [[f32; PANEL]], rows: &[f32], inputs: usize) {
    if inputs == 0 {
        return;
    }
    assert!(rows.len() <= panels.len() * PANEL, "{} weights exceed {} columns", rows.len(), panels.len());
    for (panel, rows) in panels.chunks_exact_mut(inputs).zip(rows.chunks(PANEL * inputs)) {
        View::row_major(rows, inputs).interleave(0, 0, panel);
    }
}

/// Computes the linear layer without bias, `y = x · wᵀ`, on one thread: `x` is `[rows][inputs]`, `y` is
/// `[rows][outputs]`.
///
/// # Panics
///
/// When the lengths do not fit.
pub fn linear_packed(y: &mut [f32], x: &[f32], w: &PackedWeights) {
    linear_packed_on(Isa::current(), y, x, w);
}

fn linear_packed_on(isa: Isa, y: &mut [f32], x: &[f32], w: &PackedWeights) {
    let (inputs, outputs) = (w.inputs, w.outputs);
    check(y, x, inputs, outputs);
    if inputs == 0 || outputs == 0 {
        return y.fill(0.0);
    }
    let (arithmetic, a) = (F32 { isa, alpha: 1.0 }, View::row_major(x, inputs));
    BlockedProduct { arithmetic, a, b: w, beta: 0.0, upper: false }.write(ViewMut::row_major(y, outputs));
}

/// Checks that `y` has a row of `outputs` for each row of `inputs` of `x`.
pub(super) fn check(y: &[f32], x: &[f32], inputs: usize, outputs: usize) {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    assert!(
        x.len() == rows * inputs && (inputs == 0 || y.len() == rows * outputs),
        "{} outputs are not {outputs} for each row of {inputs} of {}",
        y.len(),
        x.len()
    );
}

impl Panels<f32> for PackedWeights {
    fn panel<'a>(
        &'a self,
        panel: usize,
        inputs: Range<usize>,
        _: &'a mut Vec<[f32; PANEL]>,
    ) -> &'a [[f32; PANEL]] {
        &self.columns[panel * self.inputs..][inputs]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::blocked::{INPUTS, ROWS};
    use crate::linalg::tests::{bits, noise};

    /// Computes the layer by its definition.
    fn naive(x: &[f32], w: &[f32], inputs: usize) -> Vec<u32> {
        let chain = |x: &[f32], w: &[f32]| x.iter().zip(w).fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
        x.chunks(inputs).flat_map(|x| w.chunks(inputs).map(move |w| chain(x, w).to_bits())).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_chain_of_the_definition() {
        let small = (1..=40).map(|rows| (rows, rows * 29 % 70 + 1, rows * 43 % 70 + 1));
        let large = [(ROWS + 3, 5, 33), (13, INPUTS, 32), (18, 2 * INPUTS + 7, 65), (1, INPUTS + 1, 31)];
        for (rows, inputs, outputs) in small.chain(large) {
            let (x, w) = (noise(rows * inputs, rows), noise(outputs * inputs, outputs));
            let packed = PackedWeights::new(&w, inputs, outputs);
            let expected = naive(&x, &w, inputs);
            for isa in Isa::available() {
                let mut y = vec![f32::NAN; rows * outputs];
                linear_packed_on(isa, &mut y, &x, &packed);
                assert!(bits(&y) == expected, "{isa:?} {rows}x{inputs}x{outputs}");
            }
        }
    }

    #[test]
    fn rows_may_be_cut_anywhere() {
        let (rows, inputs, outputs) = (31, INPUTS + 50, 40);
        let (x, w) = (noise(rows * inputs, 1), noise(outputs * inputs, 2));
        let packed = PackedWeights::new(&w, inputs, outputs);
        let mut whole = vec![0.0; rows * outputs];
        linear_packed(&mut whole, &x, &packed);
        for cut in [1, 2, 5, 12, 17] {
            let mut parts = vec![0.0; rows * outputs];
            for (y, x) in parts.chunks_mut(cut * outputs).zip(x.chunks(cut * inputs)) {
                linear_packed(y, x, &packed);
            }
            assert!(bits(&parts) == bits(&whole), "cut at {cut}");
        }
    }

    #[test]
    fn panels_may_be_packed_apart() {
        let (inputs, outputs) = (130, 70);
        let w = noise(outputs * inputs, 3);
        let mut packed = PackedWeights::zeroed(inputs, outputs);
        for (panel, rows) in packed.panels_mut().chunks_mut(inputs).zip(w.chunks(PANEL * inputs)) {
            pack(panel, rows, inputs);
        }
        assert_eq!(packed.columns, PackedWeights::new(&w, inputs, outputs).columns);
        assert!(
            (0..outputs).all(|o| packed.columns[o / PANEL * inputs + 129][o % PANEL] == w[o * inputs + 129])
        );
        assert_eq!(packed.columns[2 * inputs + 129][outputs % PANEL..], [0.0; 26]);
    }

    #[test]
    fn transposed_panels_are_those_of_the_transposed_weights() {
        for (inputs, outputs) in [(1, 1), (32, 64), (70, 45), (5, 100)] {
            let w = noise(outputs * inputs, 3);
            let turned: Vec<f32> =
                (0..inputs).flat_map(|i| w.iter().skip(i).step_by(inputs).copied()).collect();
            let packed = PackedWeights::new(&w, inputs, outputs);
            let mut transposed = PackedWeights::zeroed(outputs, inputs);
            for (i, panel) in transposed.panels_mut().chunks_mut(outputs).enumerate() {
                packed.transpose_panel(i, panel);
            }
            assert!(
                transposed.columns == PackedWeights::new(&turned, outputs, inputs).columns,
                "{inputs} {outputs}"
            );
        }
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut y = [f32::NAN; 6];
        linear_packed(&mut y, &[], &PackedWeights::zeroed(0, 3));
        assert_eq!(y, [0.0; 6]);
    }

    #[test]
    #[should_panic(expected = "are not 3 for each row")]
    fn shapes_must_fit() {
        linear_packed(&mut [0.0; 9], &[0.0; 8], &PackedWeights::zeroed(4, 3));
    }
}
