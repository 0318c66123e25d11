//! The pieces of the forward pass, on one thread: `cargo bench -p kquant-kernels --bench linalg`. Throughput of products
//! counts two operations per multiply-add ("elements" per second are FLOP/s).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kquant_kernels::block::by_name;
use kquant_kernels::isa::Isa;
use kquant_kernels::linalg::{
    PackedBf16, PackedWeights, View, ViewMut, gemm, linear_packed, linear_packed_bf16, mirror, syrk,
};
use kquant_kernels::math::{
    Heads, Pairs, Rope, Scratch, frequencies, gelu_tanh, rms_norm, silu_gate, softmax,
};

const TOKENS: usize = 512;

/// Numbers in -1..1, without a pattern that matters here.
fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 20011) as f32 / 10006.0 - 1.0).collect()
}

const LAYERS: [(usize, usize); 3] = [(1024, 1024), (1024, 3072), (3072, 1024)];

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    let mut product = |name: String, (m, n, k): (usize, usize, usize), a: View, b: View| {
        let mut out = vec![0.0; m * n];
        group.throughput(Throughput::Elements((2 * m * n * k) as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| {
                gemm(ViewMut::row_major(black_box(&mut out), n), black_box(a), black_box(b), 1.0, 0.0)
            });
        });
    };
    let shapes = LAYERS.map(|(inputs, outputs)| (TOKENS, outputs, inputs));
    for (m, n, k) in
        shapes.into_iter().chain([(256, 256, 512), (64, 256, 128), (128, 512, 64), (128, 64, 512)])
    {
        let (a, b) = (noise(m * k), noise(n * k));
        let (rows, columns) = (View::row_major(&a, k), View::row_major(&a, m).transposed());
        let (b_rows, b_columns) = (View::row_major(&b, n), View::row_major(&b, k).transposed());
        product(format!("a · b {m}x{n}x{k}"), (m, n, k), rows, b_rows);
        product(format!("a · b' {m}x{n}x{k}"), (m, n, k), rows, b_columns);
        product(format!("a' · b {m}x{n}x{k}"), (m, n, k), columns, b_rows);
    }
}

/// Throughput counts what `gemm` would have to do for the elements on and right of the diagonal.
fn symmetric_products(c: &mut Criterion) {
    let mut group = c.benchmark_group("syrk");
    for (n, k) in [(1024, 1024), (1024, 4096), (256, 512)] {
        let x = noise(k * n);
        let mut out = vec![0.0; n * n];
        group.throughput(Throughput::Elements((n * (n + 1) * k) as u64));
        group.bench_function(format!("{n}x{n}x{k}"), |b| {
            b.iter(|| {
                syrk(ViewMut::row_major(black_box(&mut out), n), View::row_major(black_box(&x), n), 1.0, 1.0)
            });
        });
    }
    let mut square = noise(1024 * 1024);
    group.throughput(Throughput::Elements(1024 * 1024));
    group.bench_function("mirror 1024", |b| b.iter(|| mirror(black_box(&mut square), 1024)));
}

fn packed_products(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear_packed");
    for tokens in [TOKENS, 1] {
        for (inputs, outputs) in LAYERS {
            let (x, w) = (noise(tokens * inputs), noise(outputs * inputs));
            let (exact, bf16) =
                (PackedWeights::new(&w, inputs, outputs), PackedBf16::new(&w, inputs, outputs));
            let mut y = vec![0.0; tokens * outputs];
            group.throughput(Throughput::Elements((2 * tokens * inputs * outputs) as u64));
            group.bench_function(format!("f32 {tokens}x{inputs}x{outputs}"), |b| {
                b.iter(|| linear_packed(black_box(&mut y), black_box(&x), black_box(&exact)));
            });
            group.bench_function(format!("bf16 {tokens}x{inputs}x{outputs}"), |b| {
                b.iter(|| linear_packed_bf16(black_box(&mut y), black_box(&x), black_box(&bf16)));
            });
        }
    }
}

fn attention(c: &mut Criterion) {
    let shape = Heads { heads: 16, kv_heads: 16, dim: 64, scale: 0.125 };
    let width = shape.heads * shape.dim;
    let (q, k, v) = (noise(TOKENS * width), noise(TOKENS * width), noise(TOKENS * width));
    let (mut out, mut scratch) = (vec![0.0; TOKENS * width], Scratch::default());
    let mut group = c.benchmark_group("attention");
    // Two products with half of the keys, on average.
    group.throughput(Throughput::Elements((2 * TOKENS * (TOKENS + 1) * width) as u64));
    group.bench_function("512 tokens, 16 heads of 64", |b| {
        b.iter(|| shape.attend(black_box(&mut out), black_box(&q), &k, &v, &mut scratch));
    });
}

fn rows(c: &mut Criterion) {
    const N: usize = 1024;
    let (x, weight) = (noise(TOKENS * N), noise(N));
    let mut out = x.clone();
    let mut group = c.benchmark_group("rows of 1024");
    group.throughput(Throughput::Elements((TOKENS * N) as u64));
    group.bench_function("rms_norm", |b| {
        b.iter(|| rms_norm(black_box(&mut out), black_box(&x), &weight, 1e-5))
    });
    group.bench_function("softmax", |b| b.iter(|| black_box(&mut out).chunks_exact_mut(N).for_each(softmax)));
    group.bench_function("silu_gate", |b| b.iter(|| silu_gate(black_box(&mut out), black_box(&x))));
    group.bench_function("gelu_tanh", |b| b.iter(|| gelu_tanh(black_box(&mut out))));
    let rope = Rope::new(&frequencies(1e4, 64, &[], 1.0), TOKENS, Pairs::Adjacent);
    group.bench_function("rope", |b| b.iter(|| rope.rotate(black_box(&mut out), N / 64, 64, 0)));
}

fn decoders(c: &mut Criterion) {
    const WEIGHTS: usize = 1 << 18;
    let weights = noise(WEIGHTS);
    let mut out = vec![0.0; WEIGHTS];
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(WEIGHTS as u64));
    for name in ["F16", "BF16", "Q8_0", "Q4_K", "Q6_K"] {
        let Some((ty, encode)) = by_name(name).and_then(|ty| Some((ty, ty.encode?))) else { continue };
        let mut bytes = vec![0; WEIGHTS / ty.elements * ty.bytes];
        encode(Isa::best(), &weights, None, &mut bytes);
        group.bench_function(name, |b| b.iter(|| (ty.decode)(black_box(&bytes), black_box(&mut out))));
    }
}

criterion_group!(benches, products, symmetric_products, packed_products, attention, rows, decoders);
criterion_main!(benches);
