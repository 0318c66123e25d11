use kquant_kernels::block::by_name;
use kquant_kernels::codec::Codec;
use kquant_kernels::linalg::{View, ViewMut, gemm};

use super::*;

/// A generator of uniform numbers and of others derived from them.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as f32 + 0.5) / (1 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f32::consts::TAU * self.uniform()).cos()
    }

    /// Draws from a distribution with heavy tails: a normal number of random variance.
    fn heavy(&mut self) -> f32 {
        self.normal() * (0.4 * self.normal()).exp()
    }
}

const FACTORS: usize = 64;

/// A source of inputs that share factors of falling strength and have channels of different scales.
pub(super) struct Source {
    columns: usize,
    /// Loadings of the factors, `[FACTORS][columns]`.
    loadings: Vec<f32>,
    scales: Vec<f32>,
}

impl Source {
    pub(super) fn new(columns: usize) -> Self {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let strength = |f: usize| ((f + 1) as f32).powf(-0.5);
        let loadings = (0..FACTORS * columns).map(|i| strength(i / columns) * noise.normal()).collect();
        let scales = (0..columns).map(|_| (0.5 * noise.normal()).exp()).collect();
        Self { columns, loadings, scales }
    }

    pub(super) fn hessian(&self, tokens: usize, seed: u64) -> Hessian {
        let n = self.columns;
        let mut noise = Noise(seed | 1);
        let factors: Vec<f32> = (0..tokens * FACTORS).map(|_| noise.normal()).collect();
        let mut x: Vec<f32> = (0..tokens * n).map(|_| noise.normal()).collect();
        let loadings = View::row_major(&self.loadings, n);
        gemm(ViewMut::row_major(&mut x, n), View::row_major(&factors, FACTORS), loadings, 1.0, 1.0);
        for x in x.chunks_exact_mut(n) {
            x.iter_mut().zip(&self.scales).for_each(|(x, scale)| *x *= scale);
        }
        let mut mean = vec![0.0; n * n];
        let x = View::row_major(&x, n);
        gemm(ViewMut::row_major(&mut mean, n), x.transposed(), x, 1.0 / tokens as f32, 0.0);
        for i in 0..n {
            for j in 0..i {
                mean[i * n + j] = mean[j * n + i];
            }
        }
        Hessian { columns: n, mean, tokens: tokens as u64 }
    }
}

pub(super) fn weights(rows: usize, columns: usize) -> Vec<f32> {
    let mut noise = Noise(7);
    (0..rows * columns).map(|_| 0.02 * noise.heavy()).collect()
}

pub(super) fn codec(name: &str) -> &'static Codec {
    let block = by_name(name).unwrap();
    codec_for(block).or_else(|| Codec::of(block)).unwrap()
}

pub(super) fn feedback(hessian: &Hessian) -> Feedback {
    Feedback::new(hessian.clone(), Damping::for_tokens(hessian.columns, hessian.tokens)).unwrap()
}

/// Returns the feedback for the type `name`.
pub(super) fn feedback_for(name: &str, hessian: &Hessian) -> Feedback {
    let damping = Damping::for_tokens(hessian.columns, hessian.tokens);
    Feedback::in_units(hessian.clone(), damping, unit_of(by_name(name).unwrap())).unwrap()
}

/// Types in which a code stands for several weights.
const VECTOR_TYPES: [&str; 7] = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"];

fn encoded(
    feedback: &Feedback,
    held_out: Option<&Hessian>,
    codec: &'static Codec,
    targets: &[f32],
    options: &Options,
) -> (Vec<u8>, Losses) {
    let rows = targets.len() / feedback.columns();
    let mut bytes = vec![0; rows * feedback.columns() / codec.block.elements * codec.block.bytes];
    let losses = encode(feedback, held_out, codec, targets, options, &mut bytes);
    (bytes, losses)
}

/// Decodes `count` weights from `bytes`.
pub(super) fn decoded(codec: &Codec, bytes: &[u8], count: usize) -> Vec<f32> {
    let mut decoded = vec![0.0; count];
    (codec.block.decode)(bytes, &mut decoded);
    decoded
}

/// Returns `e H e'` of every row.
fn losses(hessian: &Hessian, codec: &Codec, bytes: &[u8], targets: &[f32]) -> Vec<f64> {
    let n = hessian.columns;
    let decoded = decoded(codec, bytes, targets.len());
    let rows = decoded.chunks_exact(n).zip(targets.chunks_exact(n));
    rows.map(|(decoded, row)| {
        let e: Vec<f64> = decoded.iter().zip(row).map(|(a, b)| f64::from(a - b)).collect();
        let product = |h: &[f32]| -> f64 { h.iter().zip(&e).map(|(&h, e)| f64::from(h) * e).sum() };
        hessian.mean.chunks_exact(n).zip(&e).map(|(h, e)| e * product(h)).sum()
    })
    .collect()
}

#[test]
fn feedback_beats_the_type_s_own_encoder_by_far() {
    let source = Source::new(768);
    let (train, held_out) = (source.hessian(4096, 1), source.hessian(4096, 2));
    let (feedback, targets) = (feedback(&train), weights(40, 768));
    let types = [
        "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "Q8_0",
        "MXFP4", "NVFP4",
    ];
    for name in types {
        let codec = codec(name);
        let (bytes, sums) = encoded(&feedback, Some(&held_out), codec, &targets, &Options::default());
        let total: f64 = losses(&held_out, codec, &bytes, &targets).iter().sum();
        assert!((total / sums.result - 1.0).abs() < 1e-3, "{name}: {total} is not {}", sums.result);
        let (search, result) = (sums.search / sums.ggml(), sums.result / sums.ggml());
        // The loss of ggml is an estimate from five rows.
        assert!(search < 1.1 && result < 0.3, "{name}: search {search}, result {result} of ggml");
    }
}

#[test]
fn codes_of_several_weights_get_feedback_too() {
    let source = Source::new(768);
    let (train, held_out) = (source.hessian(4096, 1), source.hessian(4096, 2));
    let targets = weights(40, 768);
    for name in VECTOR_TYPES {
        let (feedback, codec) = (feedback_for(name, &train), codec(name));
        assert!(feedback.order.as_chunks::<8>().0.iter().all(|unit| (1..8).all(|i| unit[i] == unit[0] + i)));
        let (bytes, sums) = encoded(&feedback, Some(&held_out), codec, &targets, &Options::default());
        let total: f64 = losses(&held_out, codec, &bytes, &targets).iter().sum();
        assert!((total / sums.result - 1.0).abs() < 1e-3, "{name}: {total} is not {}", sums.result);
        assert!(sums.result < 0.42 * sums.ggml(), "{name}: {}", sums.result / sums.ggml());
        let coded = codec.read(&bytes[..bytes.len() / 40], 768);
        let mut written = vec![0; bytes.len() / 40];
        codec.write(&coded, &mut written);
        assert!(written == bytes[..bytes.len() / 40], "{name}");
    }
}

#[test]
fn a_new_order_gives_what_a_new_start_gives() {
    let train = Source::new(256).hessian(2000, 1);
    let mut turned = feedback(&train);
    for name in ["IQ2_XS", "Q4_K", "IQ3_S"] {
        let fresh = feedback_for(name, &train);
        turned.arrange(unit_of(by_name(name).unwrap())).unwrap();
        assert!(turned.order == fresh.order && turned.lower == fresh.lower && turned.pivots == fresh.pivots);
        assert_eq!(turned.damping(), fresh.damping());
    }
}

#[test]
fn every_pass_helps_on_the_statistics_it_sees() {
    let source = Source::new(512);
    let (train, targets) = (source.hessian(4096, 1), weights(32, 512));
    let none = Options { passes: 0, rounds: 0, ..Options::default() };
    let steps = [
        none.clone(),
        Options { passes: 1, ..none.clone() },
        Options { passes: 3, ..none.clone() },
        Options { passes: 3, rounds: 2, ..none },
    ];
    for name in ["Q4_K", "Q3_K", "IQ4_XS", "Q4_0", "IQ1_M", "IQ2_XS", "IQ3_XXS"] {
        let feedback = feedback_for(name, &train);
        let result = |options: &Options| encoded(&feedback, None, codec(name), &targets, options).1.result;
        let results: Vec<f64> = steps.iter().map(result).collect();
        assert!(results.windows(2).all(|w| w[1] < w[0]), "{name}: {results:?}");
    }
}

#[test]
fn no_row_is_judged_worse_than_its_search() {
    let source = Source::new(512);
    // There are so few tokens that what helps in training often hurts elsewhere.
    let (train, held_out) = (source.hessian(192, 1), source.hessian(4096, 2));
    let targets = weights(48, 512);
    for name in ["Q4_K", "Q2_K", "Q5_0", "IQ2_XXS"] {
        let feedback = feedback_for(name, &train);
        let search = Options { passes: 0, rounds: 0, starts: &[Start::Importance], ..Options::default() };
        let codec = codec(name);
        let (bytes, sums) = encoded(&feedback, Some(&held_out), codec, &targets, &Options::default());
        let weights = start::Weights::new(&feedback);
        let coded = weights.search(codec, Start::Importance, &targets);
        let mut searched = vec![0; bytes.len()];
        for (r, out) in searched.chunks_exact_mut(bytes.len() / 48).enumerate() {
            codec.write(&coded[r / 32].row(r % 32), out);
        }
        let searched = losses(&held_out, codec, &searched, &targets);
        let results = losses(&held_out, codec, &bytes, &targets);
        assert!((searched.iter().sum::<f64>() / sums.search - 1.0).abs() < 1e-3);
        for (result, search) in results.iter().zip(&searched) {
            assert!(*result <= search * 1.0001, "{name}: {result} after {search}");
        }
        let (_, rounded) = encoded(&feedback, Some(&held_out), codec, &targets, &search);
        assert_eq!((rounded.rows, rounded.search), (48, sums.search));
    }
}

#[test]
fn bytes_depend_on_neither_threads_nor_neighbours() {
    let source = Source::new(512);
    let (train, held_out) = (source.hessian(1024, 1), source.hessian(1024, 2));
    let targets = weights(150, 512);
    for name in ["Q4_K", "IQ4_NL", "IQ1_S", "IQ3_XXS"] {
        let feedback = feedback_for(name, &train);
        let encode = |threads: usize, targets: &[f32]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| encoded(&feedback, Some(&held_out), codec(name), targets, &Options::default()))
        };
        let (bytes, sums) = encode(1, &targets);
        for threads in [2, 5] {
            assert!(encode(threads, &targets) == (bytes.clone(), sums), "{name}, {threads} threads");
        }
        let (some, others) = targets.split_at(41 * 512);
        let (mut in_two, mut total) = encode(1, some);
        let (rest, sums_of_rest) = encode(1, others);
        in_two.extend(rest);
        total.add(&sums_of_rest);
        assert!(in_two == bytes, "{name}");
        assert!((total.result / sums.result - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_factors_do_not_depend_on_threads_and_give_the_hessian_back() {
    let source = Source::new(392);
    let train = source.hessian(2000, 1);
    let factored = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| feedback(&train))
    };
    let (feedback, other) = (factored(1), factored(3));
    assert!(feedback.lower == other.lower && feedback.pivots == other.pivots);
    assert!(!feedback.in_f64());
    let n = 392;
    let product = |i: usize, j: usize| -> f64 {
        let at = |k: usize, i: usize| f64::from(feedback.lower[k * n + i]);
        (0..n).map(|k| at(k, i) * f64::from(feedback.pivots[k]) * at(k, j)).sum()
    };
    for i in (0..n).step_by(7) {
        for j in 0..n {
            let damped =
                |i: usize, j: usize| f64::from(feedback.hessian[feedback.order[i] * n + feedback.order[j]]);
            let scale = (damped(i, i) * damped(j, j)).sqrt();
            let error = (product(i, j) - damped(i, j)).abs() / scale;
            assert!(error < 1e-5, "{i} {j}: {error}");
        }
    }
    let falls = feedback.order.windows(2).all(|w| train.mean[w[0] * (n + 1)] >= train.mean[w[1] * (n + 1)]);
    assert!(falls, "columns go by falling activation");
}

#[test]
fn solutions_solve() {
    let source = Source::new(328);
    let feedback = feedback(&source.hessian(2000, 1));
    let n = 328;
    let wanted = weights(70, n);
    let mut rows = vec![0.0; wanted.len()];
    let hessian = View::row_major(&feedback.hessian, n);
    gemm(ViewMut::row_major(&mut rows, n), View::row_major(&wanted, n), hessian, 1.0, 0.0);
    feedback.solve(&mut rows);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = rows.iter().zip(&wanted).map(|(x, wanted)| square(x - wanted)).sum();
    let size: f64 = wanted.iter().map(|&x| square(x)).sum();
    assert!((error / size).sqrt() < 1e-3, "relative error {}", (error / size).sqrt());
}

#[test]
fn columns_that_never_are_active_are_rounded_all_the_same() {
    let source = Source::new(512);
    let mut train = source.hessian(2048, 1);
    let dead = |j: usize| j % 5 == 3 || (64..96).contains(&j);
    for i in 0..512 {
        for j in (0..512).filter(|&j| dead(i) || dead(j)) {
            train.mean[i * 512 + j] = 0.0;
        }
    }
    let (feedback, targets) = (feedback(&train), weights(33, 512));
    for name in ["Q4_K", "Q3_K"] {
        let codec = codec(name);
        let (bytes, sums) = encoded(&feedback, None, codec, &targets, &Options::default());
        assert!(sums.result < 0.3 * sums.ggml());
        for (bytes, row) in bytes.chunks_exact(bytes.len() / 33).zip(targets.chunks_exact(512)) {
            let coded = codec.read(bytes, 512);
            let (mut total, mut least) = (0.0, 0.0);
            for j in (0..512).filter(|&j| dead(j)) {
                let value = |code: u8| {
                    let (s, g) = (j / codec.superblock, j / codec.group);
                    let step = coded.d[s] * f32::from(coded.scales[g]);
                    step * codec.levels[usize::from(code)] - coded.dmin[s] * f32::from(coded.offsets[g])
                };
                let error = |code: u8| (value(code) - row[j]).powi(2);
                total += error(coded.codes[j]);
                least += (0..codec.levels.len() as u8).map(error).fold(f32::MAX, f32::min);
            }
            assert!(total <= least * 1.1, "{name}: {total}, could be {least}");
        }
    }
}

#[test]
fn a_hessian_of_too_few_tokens_still_serves() {
    let source = Source::new(512);
    let train = source.hessian(100, 1);
    let (feedback, targets) = (feedback(&train), weights(20, 512));
    assert_eq!(feedback.damping().mean, 0.3);
    let (_, sums) = encoded(&feedback, None, codec("Q4_K"), &targets, &Options::default());
    assert!(sums.result < 0.5 * sums.search);
}

#[test]
fn a_hessian_that_f32_cannot_factor_is_factored_in_f64() {
    // Columns of large activations are nearly the same: their difference is lost in f32's sums.
    let n = 512;
    let alike = |i: usize| i < 300;
    let strength = |i: usize| 1000.0 + (i * 37 % 101) as f32;
    let element = |i: usize, j: usize| match (alike(i), alike(j)) {
        (true, true) => strength(i) * strength(j),
        _ if i == j => 1.0,
        _ => 0.0,
    };
    let mean = (0..n * n).map(|at| element(at / n, at % n)).collect();
    let train = Hessian { columns: n, mean, tokens: 1 << 20 };
    // The damping is 0.25 in all: less than f32 loses in those sums, more than it loses in the matrix itself.
    let mean = 0.25 / (1.1e6 * 300.0 / 512.0);
    let feedback = Feedback::new(train, Damping { mean, diagonal: 0.0 }).unwrap();
    assert!(feedback.in_f64());
    assert_eq!(feedback.damping().mean, mean);
    assert!(feedback.pivots.iter().all(|&pivot| pivot > 0.0));
}

#[test]
fn a_diagonal_hessian_gives_what_search_gives_or_better() {
    let n = 256;
    let mean = (0..n * n).map(|at| if at % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let train = Hessian { columns: n, mean, tokens: 1 << 20 };
    let (feedback, targets) = (feedback(&train), weights(40, n));
    for name in ["Q4_K", "Q3_K", "Q6_K", "Q4_0"] {
        let (_, sums) = encoded(&feedback, None, codec(name), &targets, &Options::default());
        assert!(sums.result <= sums.search, "{name}");
    }
}

#[test]
fn what_is_no_hessian_is_refused() {
    let hessian = |mean: Vec<f32>| Hessian { columns: 16, mean, tokens: 10 };
    let refused = |mean: Vec<f32>| Feedback::new(hessian(mean), Damping::for_tokens(16, 10)).unwrap_err();
    assert_eq!(refused(vec![1.0; 15]), FeedbackError::Shape { columns: 16, elements: 15 });
    assert_eq!(refused(vec![0.0; 256]), FeedbackError::Inactive);
    assert_eq!(refused([vec![f32::NAN], vec![1.0; 255]].concat()), FeedbackError::NotFinite);
    assert_eq!(refused([vec![-1.0], vec![1.0; 255]].concat()), FeedbackError::NotFinite);
    // Elements off the diagonal are larger than those on it, so the matrix is indefinite.
    let indefinite = (0..256).map(|at| if at % 17 == 0 { 1.0 } else { 5.0 }).collect();
    assert!(matches!(refused(indefinite), FeedbackError::NotPositive { .. }));
}

#[test]
fn rows_of_zeros_and_of_spikes_stay_finite() {
    let source = Source::new(256);
    let train = source.hessian(1024, 1);
    let mut targets = vec![0.0; 4 * 256];
    targets[256 + 17] = 3e4;
    targets[512..768].fill(1e-30);
    targets[768..].iter_mut().enumerate().for_each(|(i, x)| *x = if i % 2 == 0 { 1e30 } else { -1e30 });
    let scalar = ["Q4_K", "Q3_K", "Q2_K", "Q6_K", "Q4_0", "Q4_1", "IQ4_XS", "MXFP4", "NVFP4"];
    for name in scalar.into_iter().chain(VECTOR_TYPES) {
        let feedback = feedback_for(name, &train);
        let (bytes, _) = encoded(&feedback, None, codec(name), &targets, &Options::default());
        let mut decoded = vec![0.0; targets.len()];
        (codec(name).block.decode)(&bytes, &mut decoded);
        assert!(decoded[..768].iter().all(|x| x.is_finite()), "{name}");
        assert!(decoded[..256].iter().all(|&x| x.abs() < 1e-3), "{name}");
    }
}
