use super::coding::Coding;
use super::descend::{Descent, descend_on};
use super::dot::dot_on;
use super::refit::{Superblock, group_sums, refit_on, rescale_on, values_on};
use super::round::{Rounded, round_on};
use super::serial::substitute_on;
use super::units::{descend_vectors_on, round_vectors_on};
use super::{LANES, Lanes, Tiles};
use crate::block::by_name;
use crate::codec::{Codec, Coded, SearchOptions, VectorCodec, search};
use crate::isa::Isa;

const N: usize = 256;
const TYPES: [&str; 6] = ["Q4_K", "Q3_K", "Q2_K", "IQ4_XS", "Q4_0", "Q5_1"];
const VECTOR_TYPES: [&str; 7] = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"];

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Returns a positive definite matrix `[N][N]` whose columns are alike.
fn hessian() -> Vec<f32> {
    let near = |i: usize, j: usize| (-(i.abs_diff(j) as f32) / 16.0).exp();
    let scale = |i: usize| 1.0 + (i * 37 % 101) as f32 / 100.0;
    (0..N * N).map(|at| scale(at / N) * scale(at % N) * near(at / N, at % N)).collect()
}

fn codec(name: &str) -> &'static Codec {
    let block = by_name(name).unwrap();
    Codec::of(block).unwrap_or_else(|| &VectorCodec::of(block).unwrap().codec)
}

fn coded(codec: &Codec, row: &[f32]) -> Coded {
    if VectorCodec::of(codec.block).is_none() {
        return search(codec, row, None, SearchOptions::default());
    }
    let mut bytes = vec![0; row.len() / codec.block.elements * codec.block.bytes];
    (codec.block.encode.unwrap())(Isa::best(), row, Some(&[1.0; N]), &mut bytes);
    codec.read(&bytes, row.len())
}

/// Checks that blocks can hold the codes of every row.
fn check_points(codec: &Codec, coding: &Coding) {
    for l in 0..LANES {
        let coded = coding.row(l);
        let mut bytes = vec![0; N / codec.block.elements * codec.block.bytes];
        codec.write(&coded, &mut bytes);
        assert_eq!(codec.read(&bytes, N), coded, "{}, row {l}", codec.block.name);
    }
}

/// Returns 32 rows, and their codes as the search finds them.
fn rows(codec: &Codec) -> (Vec<Lanes>, Coding) {
    let rows = noise(LANES * N, 3);
    let coded: Vec<_> = rows.chunks(N).map(|row| coded(codec, row)).collect();
    let targets = (0..N).map(|j| std::array::from_fn(|l| rows[l * N + j])).collect();
    (targets, Coding::of_rows(codec, N, &coded))
}

fn errors(codec: &Codec, coding: &Coding, targets: &[Lanes]) -> Vec<Lanes> {
    let mut errors = vec![[0.0; LANES]; N];
    coding.decode(codec, &mut errors);
    for (error, target) in errors.iter_mut().zip(targets) {
        error.iter_mut().zip(target).for_each(|(error, target)| *error -= target);
    }
    errors
}

fn gradient(h: &Tiles, errors: &[Lanes]) -> Vec<Lanes> {
    let mut gradient = vec![[0.0; LANES]; N];
    h.add_product(0, errors, &mut gradient);
    gradient
}

/// Returns `e H e'` for each row.
fn losses(h: &[f32], errors: &[Lanes]) -> [f64; LANES] {
    std::array::from_fn(|l| {
        let e = |j: usize| f64::from(errors[j][l]);
        (0..N).map(|i| (0..N).map(|j| e(i) * f64::from(h[i * N + j]) * e(j)).sum::<f64>()).sum()
    })
}

/// Checks that `gains` are the changes of the losses, and that none is above 0.
fn check_gains(before: [f64; LANES], after: [f64; LANES], gains: &Lanes, label: &str) {
    for l in 0..LANES {
        let gain = f64::from(gains[l]);
        assert!(gain <= 0.0 && (after[l] - before[l] - gain).abs() < 1e-3 * before[l], "{label}, row {l}");
    }
    assert!(after.iter().sum::<f64>() < before.iter().sum(), "{label}: nothing was gained");
}

#[test]
fn products_are_those_of_the_matrix() {
    let (matrix, x) = (noise(24 * 40, 1), noise(7 * LANES, 2));
    let x = x.as_chunks::<LANES>().0;
    let mut out = vec![[1.0; LANES]; 24];
    Tiles::new(&matrix, 40, 24, 33).add_product(5, x, &mut out);
    for (i, out) in out.iter().enumerate() {
        for l in 0..LANES {
            let chain =
                x.iter().enumerate().fold(1.0, |sum, (j, x)| matrix[i * 40 + 5 + j].mul_add(x[l], sum));
            assert_eq!(out[l].to_bits(), chain.to_bits());
        }
    }
}

#[test]
fn substitution_solves_on_every_instruction_set() {
    let c: Vec<f32> = noise(64 * 64, 5).iter().map(|x| x * 0.2).collect();
    let x = noise(64 * LANES, 6);
    let (x, tiles) = (x.as_chunks::<LANES>().0, Tiles::new(&c, 64, 64, 64));
    for isa in Isa::available() {
        let mut y = vec![[0.0; LANES]; 64];
        substitute_on(isa, &tiles, x, &mut y);
        for k in 0..64 {
            for l in 0..LANES {
                let chain = (0..k).fold(x[k][l], |sum, j| (-c[k * 64 + j]).mul_add(y[j][l], sum));
                assert_eq!(y[k][l].to_bits(), chain.to_bits());
            }
        }
        let sums = dot_on(isa, x, &y);
        let chain = x.iter().zip(&y).fold(0.0f32, |sum, (x, y)| x[3].mul_add(y[3], sum));
        assert_eq!(sums[3].to_bits(), chain.to_bits());
    }
}

#[test]
fn rounding_is_the_same_on_every_instruction_set() {
    let feedback = Tiles::new(&noise(N * N, 8).iter().map(|x| x * 0.1).collect::<Vec<_>>(), N, N, N);
    for name in TYPES.into_iter().chain(VECTOR_TYPES) {
        let codec = codec(name);
        let (targets, coding) = rows(codec);
        let groups: Vec<usize> = (0..N).map(|j| j / codec.group).collect();
        let rounded = |isa: Isa| {
            let (mut codes, mut errors) = (coding.codes.clone(), vec![[0.0; LANES]; N]);
            let mut residuals = errors.clone();
            let mut batch = Rounded {
                grid: &coding.grid(codec),
                groups: &groups,
                targets: &targets,
                codes: &mut codes,
                errors: &mut errors,
                residuals: &mut residuals,
            };
            match VectorCodec::of(codec.block) {
                Some(vectors) => round_vectors_on(isa, vectors, (&feedback, &[1.0; N]), &targets, &mut batch),
                None => round_on(isa, codec, &feedback, &targets, &mut batch),
            }
            (codes, errors, residuals)
        };
        let all: Vec<_> = Isa::available().into_iter().map(rounded).collect();
        assert!(all.iter().all(|other| *other == all[0]), "{name}");
        let (codes, found, residuals) = &all[0];
        let coding = Coding { codes: codes.clone(), ..coding };
        assert_eq!(*found, errors(codec, &coding, &targets), "{name}: errors are those of the codes");
        check_points(codec, &coding);
        for l in 0..LANES {
            assert_eq!(found[0][l], residuals[0][l], "{name}: the first column gets no feedback");
        }
    }
}

#[test]
fn descent_lowers_the_loss_as_it_says_on_every_instruction_set() {
    let h = hessian();
    let tiles = Tiles::new(&h, N, N, N);
    for name in TYPES.into_iter().chain(VECTOR_TYPES) {
        let codec = codec(name);
        let (targets, coding) = rows(codec);
        let groups: Vec<usize> = (0..N).map(|j| j / codec.group).collect();
        let before = errors(codec, &coding, &targets);
        let descended = |isa: Isa| {
            let (mut codes, mut errors) = (coding.codes.clone(), before.clone());
            let gradient = gradient(&tiles, &errors);
            let mut block = Descent {
                h: &tiles,
                gradient: &gradient,
                grid: &coding.grid(codec),
                groups: &groups,
                codes: &mut codes,
                errors: &mut errors,
            };
            let gain = match VectorCodec::of(codec.block) {
                Some(vectors) => descend_vectors_on(isa, vectors, &mut block),
                None => descend_on(isa, codec, &mut block),
            };
            (codes, errors, gain)
        };
        let all: Vec<_> = Isa::available().into_iter().map(descended).collect();
        assert!(all.iter().all(|other| *other == all[0]), "{name}");
        let coding = Coding { codes: all[0].0.clone(), ..coding };
        check_points(codec, &coding);
        let after = errors(codec, &coding, &targets);
        check_gains(losses(&h, &before), losses(&h, &after), &all[0].2, name);
    }
}

#[test]
fn fits_lower_the_loss_as_they_say_on_every_instruction_set() {
    let h = hessian();
    for name in TYPES.into_iter().chain(VECTOR_TYPES) {
        let codec = codec(name);
        let (targets, coding) = rows(codec);
        let (size, groups) = (codec.superblock, codec.superblock / codec.group);
        let tiles = Tiles::new(&h, N, size, size);
        let sums = group_sums(&h, N, size, codec.group);
        let before = errors(codec, &coding, &targets);
        let fitted = |isa: Isa| {
            let mut coding = coding.clone();
            let mut gradient = gradient(&Tiles::new(&h, N, N, N), &before);
            let mut block = Superblock {
                h: &tiles,
                sums: &sums,
                gradient: &mut gradient[..size],
                codes: &coding.codes[..size],
                d: &mut coding.d[0],
                dmin: &mut coding.dmin[0],
                scales: &mut coding.scales[..groups],
                offsets: &mut coding.offsets[..groups],
            };
            let mut gain = refit_on(isa, codec, &mut block);
            let more = rescale_on(isa, codec, &mut block);
            gain.iter_mut().zip(more).for_each(|(gain, more)| *gain += more);
            let mut values = vec![[0.0; LANES]; size];
            values_on(isa, codec, &block, &mut values);
            (coding, values, gain)
        };
        let all: Vec<_> = Isa::available().into_iter().map(fitted).collect();
        let (coding, values, gain) = &all[0];
        for other in &all {
            let same =
                other.0.d == coding.d && other.0.scales == coding.scales && other.0.offsets == coding.offsets;
            assert!(same && other.0.dmin == coding.dmin && other.1 == *values && other.2 == *gain, "{name}");
        }
        let mut decoded = vec![[0.0; LANES]; N];
        coding.decode(codec, &mut decoded);
        assert_eq!(decoded[..size], *values, "{name}");
        for l in 0..LANES {
            let row = coding.row(l);
            let steps = |x: &i16| (x - codec.scales.start()) % codec.scale_step;
            let legal = row.scales.iter().all(|x| codec.scales.contains(x) && steps(x) == 0);
            assert!(legal && row.offsets.iter().all(|x| codec.offsets.contains(x)), "{name}");
            let floats = row.d.iter().chain(&row.dmin);
            assert!(floats.clone().all(|&x| codec.float.nearest(x) == x), "{name}");
        }
        let after = errors(codec, coding, &targets);
        check_gains(losses(&h, &before), losses(&h, &after), gain, name);
    }
}

#[test]
fn rows_come_back_from_their_lanes() {
    let codec = codec("Q2_K");
    let (_, coding) = rows(codec);
    let back = Coding::of_rows(codec, N, &(0..5).map(|l| coding.row(l)).collect::<Vec<_>>());
    for l in 0..5 {
        assert_eq!(back.row(l), coding.row(l));
        let (mut decoded, mut lanes) = (vec![0.0; N], vec![[0.0; LANES]; N]);
        codec.decode(&coding.row(l), &mut decoded);
        coding.decode(codec, &mut lanes);
        assert!(decoded.iter().zip(&lanes).all(|(x, lanes)| x.to_bits() == lanes[l].to_bits()));
    }
    assert!(back.row(5).codes.iter().all(|&code| code == 0));
}
