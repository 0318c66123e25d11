//! The search encoder on one thread, beside ggml's: `cargo bench -p kquant-kernels --bench search`. Throughput is in
//! weights.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kquant_kernels::block::by_name;
use kquant_kernels::isa::Isa;
use kquant_kernels::lattice::{Lattice, SearchOptions, search};

const COLUMNS: usize = 4096;

/// Numbers in -1..1 that lean towards zero.
fn noise(seed: usize) -> Vec<f32> {
    (0..COLUMNS).map(|i| ((i + seed) * 7919 % 20011) as f32 / 10006.0 - 1.0).map(|x| x * x * x).collect()
}

fn encoders(c: &mut Criterion) {
    let (row, importance) = (noise(0), noise(9).iter().map(|x| x * x + 1e-3).collect::<Vec<_>>());
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(COLUMNS as u64));
    for name in ["Q2_K", "Q3_K", "Q4_K", "Q6_K", "IQ4_XS", "Q4_0", "Q8_0", "NVFP4"] {
        let found = by_name(name).and_then(|ty| Some((ty, ty.encode?, Lattice::of(ty)?)));
        let Some((ty, encode, lattice)) = found else { continue };
        let mut bytes = vec![0; COLUMNS / ty.elements * ty.bytes];
        group.bench_function(format!("{name} ggml"), |b| {
            b.iter(|| encode(Isa::best(), black_box(&row), Some(&importance), black_box(&mut bytes)));
        });
        for (what, beside_ggml) in [("search", true), ("search alone", false)] {
            let options = SearchOptions { beside_ggml, ..Default::default() };
            group.bench_function(format!("{name} {what}"), |b| {
                b.iter(|| search(lattice, black_box(&row), Some(&importance), options));
            });
        }
    }
}

criterion_group!(benches, encoders);
criterion_main!(benches);
