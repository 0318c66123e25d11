//! Times the calibrated encoder on synthetic rows: `bench_gptq [COLUMNS] [ROWS] [TYPE]`.

use std::time::Instant;

use kquant::encode::feedback::{Damping, Feedback, Hessian, Options, encode};
use kquant_kernels::block::by_name;
use kquant_kernels::codec::Codec;

/// A Hessian whose columns are alike, the nearer the more, with diagonals from 1 to 4.
fn hessian(columns: usize) -> Hessian {
    let scale = |i: usize| 1.0 + (i * 37 % 101) as f32 / 100.0;
    let near = |i: usize, j: usize| (-(i.abs_diff(j) as f32) / 64.0).exp();
    let element = |i: usize, j: usize| scale(i) * scale(j) * near(i, j);
    let mean = (0..columns * columns).map(|at| element(at / columns, at % columns)).collect();
    Hessian { columns, mean, tokens: 16 * columns as u64 }
}

/// Sums of twelve uniform numbers: nearly normal.
fn weights(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() * 0.02).collect()
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| arguments.get(i).map_or(Ok(default), |x| x.parse());
    let (columns, rows) = (number(0, 4096)?, number(1, 512)?);
    let name = arguments.get(2).map_or("Q4_K", String::as_str);
    let block = by_name(name).and_then(Codec::of);
    let codec = block.ok_or_else(|| anyhow::anyhow!("{name} is no type that gptq encodes"))?;
    let (n, m) = (columns as f64, rows as f64);
    let gflops = |label: &str, flops: f64, since: Instant| {
        let seconds = since.elapsed().as_secs_f64();
        println!("{label:28} {seconds:8.3} s {:8.1} GFLOP/s", flops / seconds / 1e9);
    };

    let train = hessian(columns);
    let start = Instant::now();
    let feedback = Feedback::new(train, Damping::for_tokens(columns, 16 * columns as u64))?;
    gflops("factorisation", n * n * n / 3.0, start);

    let targets = weights(rows * columns);
    let start = Instant::now();
    feedback.solve(&mut targets.clone());
    gflops("solution", 2.0 * m * n * n, start);

    let mut bytes = vec![0; rows * columns / block.map_or(1, |b| b.block.elements) * codec.block.bytes];
    // The work in units of m n²: a start is rounded for 1, a judgement is 1, a pass 3, a round 6.
    let quick = Options { passes: 0, rounds: 0, ..Options::default() };
    let full = Options::default();
    let loop_units = (3 * full.passes + (6 + 1) * full.rounds) as f64;
    let steps = [("starts, rounded and judged", quick, 6.0), ("the whole loop", full, 6.0 + loop_units)];
    for (label, options, units) in steps {
        let start = Instant::now();
        let losses = encode(&feedback, None, codec, &targets, &options, &mut bytes);
        gflops(label, units * m * n * n, start);
        println!("{:28} {:.4} of search", "loss", losses.result / losses.search);
    }
    Ok(())
}
