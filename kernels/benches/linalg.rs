//! Benchmarks of the operations of the forward pass on one thread: `cargo bench -p kquant-kernels --bench linalg`.
//! The throughput of products counts two operations per multiply-add, so that "elements" per second are FLOP/s; that
//! of other operations counts elements. Names end in the instruction set.

mod common;

use std::hint::black_box;

use common::{config, noise, on_each_isa};
use criterion::{Criterion, criterion_group, criterion_main};
use kquant_kernels::linalg::{
    PackedBf16, PackedWeights, View, ViewMut, gemm, linear_packed, linear_packed_bf16, mirror, syrk,
};
use kquant_kernels::math::{
    Heads, Pairs, Rope, Scratch, Seen, frequencies, gelu_tanh, rms_norm, silu_gate, softmax,
};

const TOKENS: usize = 512;
/// The inputs and outputs of linear layers.
const LAYERS: [(usize, usize); 3] = [(1024, 1024), (1024, 3072), (3072, 1024)];

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    for (m, n, k) in [(TOKENS, 1024, 1024), (64, 256, 128), (128, 512, 64), (128, 64, 512)] {
        let (a, b) = (noise(m * k), noise(n * k));
        let (rows, columns) = (View::row_major(&a, k), View::row_major(&a, m).transposed());
        let (b_rows, b_columns) = (View::row_major(&b, n), View::row_major(&b, k).transposed());
        for (form, a, b) in [("a·b", rows, b_rows), ("a·b'", rows, b_columns), ("a'·b", columns, b_rows)] {
            let mut out = vec![0.0; m * n];
            on_each_isa(&mut group, &format!("{form}/{m}x{n}x{k}"), 2 * m * n * k, || {
                gemm(ViewMut::row_major(black_box(&mut out), n), black_box(a), black_box(b), 1.0, 0.0);
            });
        }
    }
}

/// The throughput counts what `gemm` would have to do for the elements on and right of the diagonal.
fn symmetric_products(c: &mut Criterion) {
    let mut group = c.benchmark_group("syrk");
    for (n, k) in [(1024, 1024), (1024, 4096), (256, 512)] {
        let x = noise(k * n);
        let mut out = vec![0.0; n * n];
        on_each_isa(&mut group, &format!("{n}x{n}x{k}"), n * (n + 1) * k, || {
            syrk(ViewMut::row_major(black_box(&mut out), n), View::row_major(black_box(&x), n), 1.0, 1.0);
        });
    }
    let mut square = noise(1024 * 1024);
    on_each_isa(&mut group, "mirror/1024", 1024 * 1024, || mirror(black_box(&mut square), 1024));
}

fn linear_layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    for tokens in [TOKENS, 1] {
        for (inputs, outputs) in LAYERS {
            let (x, w) = (noise(tokens * inputs), noise(outputs * inputs));
            let (exact, bf16) =
                (PackedWeights::new(&w, inputs, outputs), PackedBf16::new(&w, inputs, outputs));
            let mut y = vec![0.0; tokens * outputs];
            let (shape, operations) = (format!("{tokens}x{inputs}x{outputs}"), 2 * tokens * inputs * outputs);
            on_each_isa(&mut group, &format!("f32/{shape}"), operations, || {
                linear_packed(black_box(&mut y), black_box(&x), black_box(&exact));
            });
            on_each_isa(&mut group, &format!("bf16/{shape}"), operations, || {
                linear_packed_bf16(black_box(&mut y), black_box(&x), black_box(&bf16));
            });
        }
    }
}

fn attention(c: &mut Criterion) {
    let shape = Heads {
        heads: 16,
        kv_heads: 16,
        dim: 64,
        value_dim: 64,
        scale: 0.125,
        cap: None,
        causal: true,
        window: None,
    };
    let width = shape.heads * shape.dim;
    let (q, k, v) = (noise(TOKENS * width), noise(TOKENS * width), noise(TOKENS * width));
    let (mut out, mut scratch) = (vec![0.0; TOKENS * width], Scratch::default());
    let seen = Seen { keys: &k, values: &v, sinks: &[] };
    let mut group = c.benchmark_group("attention");
    // Each query has two products with half of the keys, on average.
    on_each_isa(&mut group, "512x16x64", 2 * TOKENS * (TOKENS + 1) * width, || {
        shape.attend(black_box(&mut out), black_box(&q), seen, &mut scratch);
    });
}

fn rows(c: &mut Criterion) {
    const N: usize = 1024;
    const SIZE: usize = TOKENS * N;
    let (x, weight) = (noise(SIZE), noise(N));
    let mut out = x.clone();
    let mut group = c.benchmark_group("row");
    on_each_isa(&mut group, "rms_norm", SIZE, || rms_norm(black_box(&mut out), black_box(&x), &weight, 1e-5));
    on_each_isa(&mut group, "softmax", SIZE, || black_box(&mut out).chunks_exact_mut(N).for_each(softmax));
    // Activations start from fresh numbers each time, because activations of activations soon are subnormal.
    on_each_isa(&mut group, "silu_gate", SIZE, || {
        out.copy_from_slice(&x);
        silu_gate(black_box(&mut out), black_box(&x));
    });
    on_each_isa(&mut group, "gelu_tanh", SIZE, || {
        out.copy_from_slice(&x);
        gelu_tanh(black_box(&mut out));
    });
    let rope = Rope::new(&frequencies(1e4, 64, &[], 1.0), TOKENS, Pairs::Adjacent, 1.0);
    on_each_isa(&mut group, "rope", SIZE, || rope.rotate(black_box(&mut out), N / 64, 64, 0));
}

criterion_group!(
    name = benches;
    config = config();
    targets = products, symmetric_products, linear_layers, attention, rows
);
criterion_main!(benches);
