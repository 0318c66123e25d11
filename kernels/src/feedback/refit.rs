//! The fit of a superblock's floats and integers to the loss `e H e'`, with the codes as they are.
//!
//! In all functions `gain` is the change of the loss, which is never positive.

use super::coding::value;
use super::dot::sum_of_products;
use super::level::{Levels, with_levels};
use super::{Grid, LANES, Lanes, STEP, Tiles};
use crate::codec::{Codec, Float};
use crate::isa::per_isa;

/// One superblock of 32 rows, with S columns in groups.
#[derive(Debug)]
pub struct Superblock<'a> {
    /// The superblock's block on the Hessian's diagonal, `[S][S]`.
    pub h: &'a Tiles,
    /// The sums of `h` over the columns of each group, `[S][groups]`, from [`group_sums`].
    pub sums: &'a Tiles,
    /// The gradient `e H` at the superblock's columns, `[S]`, which is kept up to date.
    pub gradient: &'a mut [Lanes],
    /// The codes, `[S]`.
    pub codes: &'a [[u8; LANES]],
    /// The scale of the scales.
    pub d: &'a mut Lanes,
    /// The scale of the offsets.
    pub dmin: &'a mut Lanes,
    /// The integer scales, `[groups]`.
    pub scales: &'a mut [Lanes],
    /// The integer offsets, `[groups]`.
    pub offsets: &'a mut [Lanes],
}

/// Returns the sums over the columns of each group, `[columns][columns / group]`, of a block of `columns` rows and
/// columns that begins at `h[0]`; rows of `h` are `stride` apart.
///
/// # Panics
///
/// When `h` is too short.
pub fn group_sums(h: &[f32], stride: usize, columns: usize, group: usize) -> Tiles {
    let rows = (0..columns).flat_map(|i| h[i * stride..][..columns].chunks_exact(group));
    let sums: Vec<f32> = rows.map(|h| h.iter().sum()).collect();
    Tiles::new(&sums, columns / group, columns, columns / group)
}

per_isa! {
    /// Moves `d` and `dmin` to members of the type's set next to the least-squares solution, where that lowers the
    /// loss. Returns the change of the loss.
    ///
    /// The solution is that of `[aHa' aHc'; aHc' cHc'] [δd; δdmin] = -[ag'; cg']`, where one unit of `d` adds `a` to
    /// the row, one unit of `dmin` adds `c`, and g is the gradient.
    pub fn refit, refit_on(codec: &Codec, block: &mut Superblock) -> Lanes {
        let a = with_levels!(codec.levels, levels => per_unit(levels, codec.group, block));
        let has_offsets = *codec.offsets.end() > 0;
        let mut ha = vec![[0.0; LANES]; a.len()];
        block.h.add_product(0, &a, &mut ha);
        let (aa, ag) = (sum_of_products(&a, &ha), sum_of_products(&a, block.gradient));
        let mut hc = vec![[0.0; LANES]; if has_offsets { a.len() } else { 0 }];
        let [mut ac, mut cc, mut cg] = [[0.0; LANES]; 3];
        if has_offsets {
            let negated: Vec<Lanes> = block.offsets.iter().map(|x| x.map(|x| -x)).collect();
            block.sums.add_product(0, &negated, &mut hc);
            ac = sum_of_products(&a, &hc);
            cc = by_group(&negated, &hc, codec.group);
            cg = by_group(&negated, block.gradient, codec.group);
        }
        let [mut by_d, mut by_dmin, mut gain] = [[0.0; LANES]; 3];
        for l in 0..LANES {
            let loss = Quadratic {
                aa: aa[l].into(), ac: ac[l].into(), cc: cc[l].into(), ag: ag[l].into(), cg: cg[l].into(),
            };
            let (d, dmin, change) = loss.best_floats(codec.float, has_offsets, block.d[l], block.dmin[l]);
            (by_d[l], by_dmin[l], gain[l]) = (d - block.d[l], dmin - block.dmin[l], change);
            (block.d[l], block.dmin[l]) = (d, dmin);
        }
        add_scaled(block.gradient, &ha, &by_d);
        add_scaled(&mut block.gradient[..hc.len()], &hc, &by_dmin);
        gain
    }
}

per_isa! {
    /// Moves the integer scale, then the integer offset of each group to the legal one of least loss. Returns the
    /// change of the loss.
    pub fn rescale, rescale_on(codec: &Codec, block: &mut Superblock) -> Lanes {
        let levels: Vec<Lanes> = with_levels!(codec.levels, levels => {
            block.codes.iter().map(|codes| levels.of(codes)).collect()
        });
        let mut gain = [0.0; LANES];
        for g in 0..block.scales.len() {
            if codec.scales.start() < codec.scales.end() {
                step_scale(codec, block, g, &levels[g * codec.group..][..codec.group], &mut gain);
            }
            if codec.offsets.start() < codec.offsets.end() {
                step_offset(codec, block, g, &mut gain);
            }
        }
        gain
    }
}

per_isa! {
    /// Writes the weights that the superblock decodes to, to the bit, to `out` `[S]`.
    pub fn values, values_on(codec: &Codec, block: &Superblock, out: &mut [Lanes]) {
        let product = |float: &Lanes, x: &Lanes| std::array::from_fn(|l| float[l] * x[l]);
        let grid = Grid {
            step: block.scales.iter().map(|x| product(block.d, x)).collect(),
            inverse: Vec::new(),
            minimum: block.offsets.iter().map(|x| product(block.dmin, x)).collect(),
        };
        with_levels!(codec.levels, levels => {
            for (j, (codes, out)) in block.codes.iter().zip(out).enumerate() {
                *out = value(&levels.of(codes), &grid, j / codec.group);
            }
        });
    }
}

/// Returns what one unit of `d` adds to each column, `[S]`.
#[inline(always)]
fn per_unit(levels: impl Levels, group: usize, block: &Superblock) -> Vec<Lanes> {
    let mut a = vec![[0.0; LANES]; block.codes.len()];
    for (j, (a, codes)) in a.iter_mut().zip(block.codes).enumerate() {
        let (level, scale) = (levels.of(codes), &block.scales[j / group]);
        for l in 0..LANES {
            a[l] = level[l] * scale[l];
        }
    }
    a
}

/// Returns `Σ_j a_u b_j`, where u is the group of column j.
#[inline(always)]
fn by_group(a: &[Lanes], b: &[Lanes], group: usize) -> Lanes {
    let mut total = [0.0; LANES];
    for (a, b) in a.iter().zip(b.chunks_exact(group)) {
        let sum = sum(b);
        for l in 0..LANES {
            total[l] = a[l].mul_add(sum[l], total[l]);
        }
    }
    total
}

#[inline(always)]
fn sum(x: &[Lanes]) -> Lanes {
    let mut sum = [0.0; LANES];
    for x in x {
        for l in 0..LANES {
            sum[l] += x[l];
        }
    }
    sum
}

#[inline(always)]
fn add_scaled(x: &mut [Lanes], y: &[Lanes], scale: &Lanes) {
    for (x, y) in x.iter_mut().zip(y) {
        for l in 0..LANES {
            x[l] = scale[l].mul_add(y[l], x[l]);
        }
    }
}

/// Moves the scale of group `g`, whose codes stand for `levels`, to the legal one of least loss.
#[inline(always)]
fn step_scale(codec: &Codec, block: &mut Superblock, g: usize, levels: &[Lanes], gain: &mut Lanes) {
    let (group, first) = (codec.group, g * codec.group);
    let mut a = vec![[0.0; LANES]; group];
    add_scaled(&mut a, levels, block.d);
    let mut curvature = [0.0; LANES];
    for (step, a_step) in a.chunks_exact(STEP).enumerate() {
        let mut ha = [[0.0; LANES]; STEP];
        block.h.add_step(first / STEP + step, first..first + group, &a, &mut ha);
        let part = sum_of_products(a_step, &ha);
        curvature.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    let slope = sum_of_products(&a, &block.gradient[first..][..group]);
    let legal = (&codec.scales, codec.scale_step);
    let step = integer_step(legal, &mut block.scales[g], &slope, &curvature, gain);
    for a in &mut a {
        for l in 0..LANES {
            a[l] *= step[l];
        }
    }
    block.h.add_product(first, &a, block.gradient);
}

/// Moves the offset of group `g` to the legal one of least loss.
#[inline(always)]
fn step_offset(codec: &Codec, block: &mut Superblock, g: usize, gain: &mut Lanes) {
    let (group, first) = (codec.group, g * codec.group);
    let total: f32 = (first..first + group).map(|i| block.sums.at(i, g)).sum();
    let sum = sum(&block.gradient[first..][..group]);
    let [mut curvature, mut slope] = [[0.0; LANES]; 2];
    for l in 0..LANES {
        curvature[l] = block.dmin[l] * block.dmin[l] * total;
        slope[l] = -block.dmin[l] * sum[l];
    }
    let step = integer_step((&codec.offsets, 1), &mut block.offsets[g], &slope, &curvature, gain);
    let mut moved = [0.0; LANES];
    for l in 0..LANES {
        moved[l] = -block.dmin[l] * step[l];
    }
    block.sums.add_product(g, &[moved], block.gradient);
}

/// Moves integers to the legal ones nearest to the minimum of `2 slope x + curvature x²`, where that lowers it;
/// returns the steps x. Legal integers are `apart` from each other.
#[inline(always)]
fn integer_step(
    (legal, apart): (&std::ops::RangeInclusive<i16>, i16),
    integers: &mut Lanes,
    slope: &Lanes,
    curvature: &Lanes,
    gain: &mut Lanes,
) -> Lanes {
    let (low, high) = (f32::from(*legal.start()), f32::from(*legal.end()));
    let apart = f32::from(apart);
    // Legal integers are counted from 0 if they are 1 apart, else from the lowest one.
    let origin = if apart == 1.0 { 0.0 } else { low };
    let mut steps = [0.0; LANES];
    for l in 0..LANES {
        // Without curvature there is no step: 0/0 fails every comparison, and x/0 does not lower the loss.
        let wanted = (integers[l] - slope[l] / curvature[l] - origin) / apart;
        let wanted = (wanted.round() * apart + origin).clamp(low, high);
        let step = wanted - integers[l];
        let change = step * curvature[l].mul_add(step, 2.0 * slope[l]);
        if curvature[l] > 0.0 && change < 0.0 {
            steps[l] = step;
            integers[l] = wanted;
            gain[l] += change;
        }
    }
    steps
}

/// The change of the loss with steps x of `d` and y of `dmin`: `2 x·ag + 2 y·cg + x²·aa + 2 xy·ac + y²·cc`.
struct Quadratic {
    aa: f64,
    ac: f64,
    cc: f64,
    ag: f64,
    cg: f64,
}

impl Quadratic {
    fn at(&self, x: f64, y: f64) -> f64 {
        x * (2.0 * self.ag + x * self.aa + 2.0 * y * self.ac) + y * (2.0 * self.cg + y * self.cc)
    }

    /// Returns the steps to the minimum, along one axis if both are nearly parallel.
    fn minimum(&self, has_offsets: bool) -> (f64, f64) {
        let determinant = self.aa * self.cc - self.ac * self.ac;
        if has_offsets && determinant > 1e-6 * self.aa * self.cc {
            let x = (self.ac * self.cg - self.cc * self.ag) / determinant;
            let y = (self.ac * self.ag - self.aa * self.cg) / determinant;
            (x, y)
        } else if self.aa > 0.0 {
            (-self.ag / self.aa, 0.0)
        } else if self.cc > 0.0 {
            (0.0, -self.cg / self.cc)
        } else {
            (0.0, 0.0)
        }
    }

    /// Returns `d`, `dmin` and the change of the loss for the members next to the minimum at which the loss is least,
    /// or the present ones if no others are better.
    fn best_floats(&self, float: Float, has_offsets: bool, d: f32, dmin: f32) -> (f32, f32, f32) {
        let (x, y) = self.minimum(has_offsets);
        let around = |present: f32, step: f64| float.neighbours((f64::from(present) + step) as f32);
        let minima = if has_offsets { around(dmin, y) } else { [dmin; 3] };
        let mut best = (d, dmin, 0.0);
        for d_new in around(d, x) {
            for &dmin_new in if has_offsets { &minima[..] } else { &minima[..1] } {
                let step = |new: f32, old: f32| f64::from(new) - f64::from(old);
                let change = self.at(step(d_new, d), step(dmin_new, dmin)) as f32;
                if change < best.2 {
                    best = (d_new, dmin_new, change);
                }
            }
        }
        best
    }
}
