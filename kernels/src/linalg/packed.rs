//! The linear layer on weights that are packed once and used many times.
//!
//! Every element of the result is one chain of fused multiply-adds over the inputs in their order, in f32. So it depends
//! on neither the number of rows, nor how work is cut, nor the instruction set. What was tried: `NOTES.md`.

use crate::isa::{Isa, Level};

/// Outputs of one panel.
pub const PANEL: usize = 32;

/// Rows of the largest tile: with a panel's two vectors each they fill most of AVX-512's registers.
const TILE: usize = 12;

/// Inputs of one block: a block of a panel and of a tile stay in the L2 cache.
const INPUTS: usize = 1280;

/// Rows of one block, whole tiles: bounds the memory of their copy.
const ROWS: usize = 43 * TILE;

/// Weights of a linear layer in panels, `[outputs / 32][inputs][32]`, the last one padded with zeros.
#[derive(Debug, Clone)]
pub struct PackedWeights {
    columns: Vec<[f32; PANEL]>,
    inputs: usize,
    outputs: usize,
}

impl PackedWeights {
    /// All zero: [`pack`] fills parts of [`panels_mut`](Self::panels_mut).
    pub fn zeroed(inputs: usize, outputs: usize) -> Self {
        Self { columns: vec![[0.0; PANEL]; outputs.div_ceil(PANEL) * inputs], inputs, outputs }
    }

    /// The weights `w` `[outputs][inputs]`.
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

    /// Length of the rows that enter.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of the rows that leave.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The panels, `[inputs][32]` each.
    pub fn panels_mut(&mut self) -> &mut [[f32; PANEL]] {
        &mut self.columns
    }
}

/// Packs `rows` `[outputs][inputs]` into the panels that hold them, `[outputs / 32][inputs][32]`.
///
/// # Panics
///
/// When there are more rows than the panels take.
pub fn pack(panels: &mut [[f32; PANEL]], rows: &[f32], inputs: usize) {
    /// Columns at a time: they stay in the L1 cache while the rows are spread over them.
    const COLUMNS: usize = 64;
    if inputs == 0 {
        return;
    }
    assert!(rows.len() <= panels.len() * PANEL, "{} weights exceed {} columns", rows.len(), panels.len());
    for (panel, rows) in panels.chunks_exact_mut(inputs).zip(rows.chunks(PANEL * inputs)) {
        for (i, columns) in panel.chunks_mut(COLUMNS).enumerate() {
            for (r, row) in rows.chunks_exact(inputs).enumerate() {
                for (column, &weight) in columns.iter_mut().zip(&row[i * COLUMNS..]) {
                    column[r] = weight;
                }
            }
        }
    }
}

/// The linear layer without bias, `y = x · wᵀ`: `x` `[rows][inputs]`, `y` `[rows][outputs]`. Single-threaded.
///
/// # Panics
///
/// When the lengths do not fit.
pub fn linear_packed(y: &mut [f32], x: &[f32], w: &PackedWeights) {
    linear_packed_on(Isa::best(), y, x, w);
}

fn linear_packed_on(isa: Isa, y: &mut [f32], x: &[f32], w: &PackedWeights) {
    let (inputs, outputs) = (w.inputs, w.outputs);
    y.fill(0.0);
    if inputs == 0 || outputs == 0 {
        return;
    }
    let rows = x.len() / inputs;
    assert!(
        x.len() == rows * inputs && y.len() == rows * outputs,
        "{} outputs are not {outputs} for each row of {inputs} of {}",
        y.len(),
        x.len()
    );
    let mut copy = Vec::new();
    for (x, y) in x.chunks(ROWS * inputs).zip(y.chunks_mut(ROWS * outputs)) {
        for first in (0..inputs).step_by(INPUTS) {
            let block = Block { isa, w, first, inputs: INPUTS.min(inputs - first) };
            let (x_rest, y_rest) = block.run::<TILE>(x, y, &mut copy);
            let (x_rest, y_rest) = block.run::<4>(x_rest, y_rest, &mut copy);
            block.run::<1>(x_rest, y_rest, &mut copy);
        }
    }
}

/// The inputs `first..first + inputs` of all outputs.
struct Block<'a> {
    isa: Isa,
    w: &'a PackedWeights,
    first: usize,
    inputs: usize,
}

impl Block<'_> {
    /// Adds the block's products to as many rows of `y` as are whole tiles of `M`, and returns the rows that are left.
    /// `copy` is memory for the rows of `x`, as `[tiles][inputs][M]`.
    fn run<'x, 'y, const M: usize>(
        &self,
        x: &'x [f32],
        y: &'y mut [f32],
        copy: &mut Vec<f32>,
    ) -> (&'x [f32], &'y mut [f32]) {
        let (inputs, outputs) = (self.w.inputs, self.w.outputs);
        let tiles = x.len() / (M * inputs);
        let (x, x_rest) = x.split_at(tiles * M * inputs);
        let (y, y_rest) = y.split_at_mut(tiles * M * outputs);
        copy.clear();
        copy.resize(tiles * M * self.inputs, 0.0);
        let (copy, _) = copy.as_chunks_mut::<M>();
        for (tile, x) in copy.chunks_exact_mut(self.inputs).zip(x.chunks_exact(M * inputs)) {
            for (r, row) in x.chunks_exact(inputs).enumerate() {
                for (column, &x) in tile.iter_mut().zip(&row[self.first..]) {
                    column[r] = x;
                }
            }
        }
        for (p, panel) in self.w.columns.chunks_exact(inputs).enumerate() {
            let panel = &panel[self.first..][..self.inputs];
            let at = p * PANEL;
            let width = PANEL.min(outputs - at);
            for (tile, y) in copy.chunks_exact(self.inputs).zip(y.chunks_exact_mut(M * outputs)) {
                let mut sums = [[0.0; PANEL]; M];
                for (sums, y) in sums.iter_mut().zip(y.chunks_exact(outputs)) {
                    sums[..width].copy_from_slice(&y[at..at + width]);
                }
                tile_on(self.isa, tile, panel, &mut sums);
                for (sums, y) in sums.iter().zip(y.chunks_exact_mut(outputs)) {
                    y[at..at + width].copy_from_slice(&sums[..width]);
                }
            }
        }
        (x_rest, y_rest)
    }
}

/// `sums += x' · w`, with the tile's shape fit to the registers there are.
fn tile_on<const M: usize>(isa: Isa, x: &[[f32; M]], w: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
    /// 12 x 32 sums are 24 vectors of 32. Apart from [`part`], whose ranges cost this shape half its speed.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512<const M: usize>(x: &[[f32; M]], w: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
        let mut kept = *sums;
        for (x, w) in x.iter().zip(w) {
            for r in 0..M {
                for l in 0..PANEL {
                    kept[r][l] = x[r].mul_add(w[l], kept[r][l]);
                }
            }
        }
        *sums = kept;
    }

    /// 6 x 16 sums are 12 vectors of 16.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<const M: usize>(x: &[[f32; M]], w: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
        parts(x, w, sums);
    }

    match isa.level() {
        Level::Baseline => parts(x, w, sums),
        // SAFETY: an `Isa` of this level exists only where its instructions were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(x, w, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(x, w, sums) },
    }
}

/// [`part`] by [`part`], for machines with few registers.
#[inline(always)]
fn parts<const M: usize>(x: &[[f32; M]], w: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
    const LANES: usize = 16;
    for lane in (0..PANEL).step_by(LANES) {
        if M.is_multiple_of(6) {
            (0..M).step_by(6).for_each(|row| part::<M, 6, LANES>(x, w, sums, row, lane));
        } else if M.is_multiple_of(4) {
            (0..M).step_by(4).for_each(|row| part::<M, 4, LANES>(x, w, sums, row, lane));
        } else {
            (0..M).for_each(|row| part::<M, 1, LANES>(x, w, sums, row, lane));
        }
    }
}

/// The `R` rows from `row` on and the `L` outputs from `lane` on of a tile: plain arrays, which the compiler keeps in
/// vector registers.
#[inline(always)]
fn part<const M: usize, const R: usize, const L: usize>(
    x: &[[f32; M]],
    w: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; M],
    row: usize,
    lane: usize,
) {
    let mut part: [[f32; L]; R] = std::array::from_fn(|r| std::array::from_fn(|l| sums[row + r][lane + l]));
    for (x, w) in x.iter().zip(w) {
        let (x, w) = (&x[row..row + R], &w[lane..lane + L]);
        for r in 0..R {
            for l in 0..L {
                part[r][l] = x[r].mul_add(w[l], part[r][l]);
            }
        }
    }
    for (r, part) in part.iter().enumerate() {
        sums[row + r][lane..lane + L].copy_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in -1..1 whose sums round.
    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i + seed) * 7919 % 20011) as f32 / 10006.0 - 1.0).collect()
    }

    /// The definition.
    fn naive(x: &[f32], w: &[f32], inputs: usize) -> Vec<u32> {
        let chain = |x: &[f32], w: &[f32]| x.iter().zip(w).fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
        x.chunks(inputs).flat_map(|x| w.chunks(inputs).map(move |w| chain(x, w).to_bits())).collect()
    }

    fn bits(y: &[f32]) -> Vec<u32> {
        y.iter().map(|y| y.to_bits()).collect()
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
