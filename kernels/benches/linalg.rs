//! The pieces of the forward pass, one thread: `cargo bench -p kquant-kernels --bench linalg`. Throughput of products
//! counts two operations per multiply-add ("elements" per second are FLOP/s).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kquant_kernels::linalg::linear;

const TOKENS: usize = 512;

/// Numbers in -1..1, without a pattern that matters here.
fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 20011) as f32 / 10006.0 - 1.0).collect()
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    for (inputs, outputs) in [(1024, 1024), (1024, 3072), (3072, 1024)] {
        let (x, w) = (noise(TOKENS * inputs), noise(outputs * inputs));
        let mut y = vec![0.0; TOKENS * outputs];
        group.throughput(Throughput::Elements((2 * TOKENS * inputs * outputs) as u64));
        group.bench_function(format!("{TOKENS}x{inputs}x{outputs}"), |b| {
            b.iter(|| linear(black_box(&mut y), black_box(&x), black_box(&w), inputs, outputs));
        });
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
