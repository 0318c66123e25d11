//! Benchmarks of the encoders and decoders of every block type on one thread, in weights per second:
//! `cargo bench -p kquant-kernels --bench block -- encode/q4_k`. Names are `encode/TYPE/ENCODER/ISA` and
//! `decode/TYPE/ISA`; `-weighted` means with importance.

mod common;

use std::hint::black_box;

use common::{config, noise, on_each_isa};
use criterion::{Criterion, criterion_group, criterion_main};
use kquant_kernels::block::{BlockType, Importance, TYPES};
use kquant_kernels::codec::{Codec, SearchOptions, search};
use kquant_kernels::isa::Isa;

const COLUMNS: usize = 4096;
/// The number of rows: enough weights that the processor does not learn their branches.
const ROWS: usize = 8;
const WEIGHTS: usize = ROWS * COLUMNS;

fn row_bytes(ty: &BlockType) -> usize {
    COLUMNS / ty.elements * ty.bytes
}

fn importance() -> Vec<f32> {
    noise(COLUMNS).iter().map(|x| x * x + 1e-3).collect()
}

fn encoders(c: &mut Criterion) {
    let (weights, importance) = (noise(WEIGHTS), importance());
    let mut group = c.benchmark_group("encode");
    for ty in TYPES.iter().filter(|ty| ty.quantized) {
        let name = ty.name.to_lowercase();
        let mut bytes = vec![0; row_bytes(ty)];
        for (encoder, importance) in [("ggml", None), ("ggml-weighted", Some(importance.as_slice()))] {
            let other = if importance.is_some() { Importance::Ignored } else { Importance::Required };
            let Some(encode) = ty.encode.filter(|_| ty.importance != other) else { continue };
            on_each_isa(&mut group, &format!("{name}/{encoder}"), WEIGHTS, || {
                for row in black_box(&weights).chunks_exact(COLUMNS) {
                    encode(Isa::current(), row, importance, black_box(&mut bytes));
                }
            });
        }
        let Some(codec) = Codec::of(ty) else { continue };
        on_each_isa(&mut group, &format!("{name}/search-weighted"), COLUMNS, || {
            let row = black_box(&weights[..COLUMNS]);
            black_box(search(codec, row, Some(&importance), SearchOptions::default()));
        });
    }
}

fn decoders(c: &mut Criterion) {
    let (weights, importance) = (noise(WEIGHTS), importance());
    let mut out = vec![0.0; WEIGHTS];
    let mut group = c.benchmark_group("decode");
    for ty in TYPES {
        // Types that nothing here encodes are decoded from random bits.
        let mut bytes: Vec<u8> = noise(ROWS * row_bytes(ty)).iter().map(|x| x.to_bits() as u8).collect();
        if let Some(encode) = ty.encode {
            for (row, bytes) in weights.chunks_exact(COLUMNS).zip(bytes.chunks_exact_mut(row_bytes(ty))) {
                encode(Isa::best(), row, Some(&importance), bytes);
            }
        }
        on_each_isa(&mut group, &ty.name.to_lowercase(), WEIGHTS, || {
            (ty.decode)(black_box(&bytes), black_box(&mut out));
        });
    }
}

criterion_group!(name = benches; config = config(); targets = encoders, decoders);
criterion_main!(benches);
