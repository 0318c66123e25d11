//! The encoder: starts, passes and rounds, and the choice among their results.

use kquant_kernels::codec::Codec;
use kquant_kernels::feedback::{Coding, LANES};
use kquant_kernels::isa::Isa;
use rayon::prelude::*;

use super::judge::Judge;
use super::start::Weights;
use super::tile::{Shared, Strip, Tile, set_strip, strips_for, to_strip};
use super::{Feedback, Hessian, Options};

/// Losses: sums over rows of `e H e'` with the held-out Hessian, or else the training one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// Number of rows.
    pub rows: u64,
    /// Loss of the first start's codes, before any feedback.
    pub search: f64,
    /// Loss of the encoding that was written.
    pub result: f64,
    /// Losses of the type's own encoder and of the first start, over every eighth row.
    sampled: [f64; 2],
}

/// Distance of the rows that the type's own encoder is run on for comparison.
const SAMPLED: usize = 8;

impl Losses {
    /// Adds the losses of other rows.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.search += other.search;
        self.result += other.result;
        self.sampled.iter_mut().zip(other.sampled).for_each(|(sum, x)| *sum += x);
    }

    /// Returns the losses multiplied by `weight`.
    pub(super) fn times(mut self, weight: f64) -> Self {
        let sums = self.sampled.iter_mut().chain([&mut self.search, &mut self.result]);
        sums.for_each(|sum| *sum *= weight);
        self
    }

    /// Returns the loss of the type's own encoder, estimated from every eighth row; it is NaN if the search left no error
    /// in these rows.
    pub fn ggml(&self) -> f64 {
        let [ggml, search] = self.sampled;
        self.search * (ggml / search)
    }
}

/// Encodes `targets` `[rows][n]` into `out`, the rows' blocks one after the other, and returns the losses.
///
/// Rows are independent: their bytes depend neither on each other nor on the number of threads. No row is worse than the
/// codes of its first start on the statistics that candidates are compared by.
///
/// # Panics
///
/// Panics when the lengths do not fit (n columns in `feedback` and `held_out`, n a whole number of blocks; rows in
/// `targets` and `out`) or when `feedback` is not arranged for the type's units.
pub fn encode(
    feedback: &Feedback,
    held_out: Option<&Hessian>,
    codec: &'static Codec,
    targets: &[f32],
    options: &Options,
    out: &mut [u8],
) -> Losses {
    let rows = RowEncoder { feedback, held_out, codec, options, present: None };
    let mut total = Losses::default();
    rows.encode(targets, out).iter().for_each(|row| total.add(row));
    total
}

/// An encoder of rows with the arguments of [`encode`].
#[derive(Clone, Copy)]
pub(super) struct RowEncoder<'a> {
    pub(super) feedback: &'a Feedback,
    pub(super) held_out: Option<&'a Hessian>,
    pub(super) codec: &'static Codec,
    pub(super) options: &'a Options,
    /// The present encoding of the rows, if there is one: scales then start from it and not from a search, and the caller
    /// compares the losses.
    pub(super) present: Option<&'a [u8]>,
}

impl RowEncoder<'_> {
    /// Encodes as [`encode`] does and returns the losses row by row; there are none for rows with a present encoding.
    pub(super) fn encode(&self, targets: &[f32], out: &mut [u8]) -> Vec<Losses> {
        let Self { feedback, held_out, codec, options, present } = *self;
        let n = feedback.columns;
        let row_bytes = n / codec.block.elements * codec.block.bytes;
        let rows = targets.len() / n;
        assert!(n.is_multiple_of(codec.block.elements), "rows of {n} are no whole blocks");
        let unit = super::unit_of(codec.block);
        assert!(feedback.unit.is_multiple_of(unit), "columns go {} by {0}, not by {unit}", feedback.unit);
        assert!(
            targets.len() == rows * n && out.len() == rows * row_bytes,
            "{} bytes for {rows} rows",
            out.len()
        );
        assert!(held_out.is_none_or(|h| h.mean.len() == n * n), "the held-out Hessian has other columns");
        let job = Job {
            shared: Shared::new(feedback, codec),
            weights: Weights::new(feedback),
            judge: present.is_none().then(|| Judge::new(feedback, held_out)),
            options,
        };
        let strips = strips_for(rows);
        let (elements, bytes) = (strips * LANES * n, strips * LANES * row_bytes);
        let tiles = targets.par_chunks(elements).zip(out.par_chunks_mut(bytes)).enumerate();
        let of_tile = |(i, (targets, out)): (usize, (&[f32], &mut [u8]))| {
            job.encode_tile(targets, present.map(|rows| &rows[i * bytes..][..out.len()]), out)
        };
        let losses: Vec<Vec<Losses>> = tiles.map(of_tile).collect();
        losses.concat()
    }
}

struct Job<'a> {
    shared: Shared<'a>,
    weights: Weights<'a>,
    /// The judge of candidates; `None` if the last codes are always taken.
    judge: Option<Judge<'a>>,
    options: &'a Options,
}

/// The best encoding of each row so far.
struct Best {
    /// Codings by strip.
    codings: Vec<Coding>,
    /// Losses by strip.
    losses: Vec<[f64; LANES]>,
}

impl Job<'_> {
    /// Encodes one tile's rows, from the `present` ones if there are any, and returns their losses row by row.
    fn encode_tile(&self, targets: &[f32], present: Option<&[u8]>, out: &mut [u8]) -> Vec<Losses> {
        let mut tile = self.start(targets, present);
        let first = self.judge.map(|judge| judge.losses(&tile.errors, tile.strips.len()));
        let mut best = first.clone().map(|losses| Best { losses, codings: tile.codings() });
        for (i, &start) in self.options.starts.iter().enumerate() {
            if i > 0 {
                tile.try_grids(&self.weights.search(self.shared.codec, start, targets));
            } else {
                tile.round_again();
            }
        }
        for _ in 0..self.options.passes {
            tile.fit_scales();
            tile.round_again();
        }
        // Computing a loss costs as much as rounding.
        if self.options.rounds == 0 {
            self.offer(&tile, &mut best);
        }
        for _ in 0..self.options.rounds {
            tile.fit_scales();
            for _ in 0..self.options.sweeps {
                tile.improve_codes();
            }
            self.offer(&tile, &mut best);
        }
        let (codings, losses) =
            best.map_or_else(|| (tile.codings(), None), |best| (best.codings, Some(best.losses)));
        let row_bytes = out.len() / (targets.len() / self.shared.feedback.columns);
        for (r, out) in out.chunks_exact_mut(row_bytes).enumerate() {
            self.shared.codec.write(&codings[r / LANES].row(r % LANES), out);
        }
        first.zip(losses).map_or_else(Vec::new, |(first, losses)| self.report(targets, &first, &losses))
    }

    /// Returns a tile of the rows' present encoding, or of the codes of the first start. The result of the first rounding
    /// is taken whatever it loses under the damped Hessian.
    fn start(&self, targets: &[f32], present: Option<&[u8]>) -> Tile<'_> {
        let (n, codec) = (self.shared.feedback.columns, self.shared.codec);
        let first = self.options.starts.first().copied().unwrap_or(super::Start::Importance);
        let row_bytes = n / codec.block.elements * codec.block.bytes;
        let coding = |rows: &[u8]| {
            let rows: Vec<_> = rows.chunks_exact(row_bytes).map(|row| codec.read(row, n)).collect();
            Coding::of_rows(codec, n, &rows)
        };
        let codings = match present {
            Some(rows) => rows.chunks(LANES * row_bytes).map(coding).collect(),
            None => self.weights.search(codec, first, targets),
        };
        let strips: Vec<Strip> = targets
            .chunks(LANES * n)
            .zip(codings)
            .map(|(rows, coding)| Strip { targets: to_strip(rows, n), coding, loss: [f64::INFINITY; LANES] })
            .collect();
        let mut tile = Tile { shared: &self.shared, errors: vec![[0.0; LANES]; n * strips.len()], strips };
        let count = tile.strips.len();
        for (s, strip) in tile.strips.iter().enumerate() {
            set_strip(&mut tile.errors, count, s, &strip.errors(codec));
        }
        tile
    }

    /// Keeps the rows whose losses are lower than before.
    fn offer(&self, tile: &Tile, best: &mut Option<Best>) {
        let (Some(judge), Some(best)) = (self.judge, best) else { return };
        let losses = judge.losses(&tile.errors, tile.strips.len());
        for (s, strip) in tile.strips.iter().enumerate() {
            let better: [bool; LANES] = std::array::from_fn(|l| losses[s][l] < best.losses[s][l]);
            best.codings[s].take(&strip.coding, &better);
            for l in (0..LANES).filter(|&l| better[l]) {
                best.losses[s][l] = losses[s][l];
            }
        }
    }

    fn report(&self, targets: &[f32], first: &[[f64; LANES]], result: &[[f64; LANES]]) -> Vec<Losses> {
        let n = self.shared.feedback.columns;
        let at = |losses: &[[f64; LANES]], r: usize| losses[r / LANES][r % LANES];
        let ggml = self.ggml_losses(targets);
        let row = |r: usize| {
            let search = at(first, r);
            let sampled = match &ggml {
                Some(ggml) if r.is_multiple_of(SAMPLED) => [at(ggml, r / SAMPLED), search],
                _ => [0.0; 2],
            };
            Losses { rows: 1, search, result: at(result, r), sampled }
        };
        (0..targets.len() / n).map(row).collect()
    }

    /// Returns losses of the type's own encoder on every eighth row, side by side, by strip; `None` if the type has no
    /// encoder.
    fn ggml_losses(&self, targets: &[f32]) -> Option<Vec<[f64; LANES]>> {
        let (n, block) = (self.shared.feedback.columns, self.shared.codec.block);
        let (encode, judge) = (block.encode?, self.judge?);
        let strips = (targets.len() / n).div_ceil(SAMPLED * LANES);
        let mut errors = vec![[0.0; LANES]; n * strips];
        let (mut bytes, mut decoded) = (vec![0; n / block.elements * block.bytes], vec![0.0; n]);
        for (r, row) in targets.chunks_exact(n).step_by(SAMPLED).enumerate() {
            encode(Isa::current(), row, Some(&self.shared.feedback.importance), &mut bytes);
            (block.decode)(&bytes, &mut decoded);
            let lane = errors[r / LANES..].iter_mut().step_by(strips);
            for ((error, decoded), weight) in lane.zip(&decoded).zip(row) {
                error[r % LANES] = decoded - weight;
            }
        }
        Some(judge.losses(&errors, strips))
    }
}

impl Tile<'_> {
    fn codings(&self) -> Vec<Coding> {
        self.strips.iter().map(|strip| strip.coding.clone()).collect()
    }
}
