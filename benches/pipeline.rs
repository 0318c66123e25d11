//! The whole way from a GGUF to a GGUF: reading, encoding, hashing, writing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kquant::context::Silent;
use kquant::encode;
use kquant::job::{Job, Outputs, Prepared, Resources, Statistics, Types, prepare};
use kquant::recipe;
use kquant_formats::gguf::{Metadata, TensorSpec, Value, layout};

const COLUMNS: u64 = 1024;
const ROWS: u64 = 2048;
const TENSORS: u64 = 4;

/// Writes a GGUF of F16 matrices of pseudo-random weights from 2^-9 to 2^-5 or their negatives; 16 MiB of them.
fn write_model(path: &Path) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::from("bench"));
    let spec = |i: u64| TensorSpec {
        name: format!("blk.{i}.ffn_up.weight"),
        shape: vec![COLUMNS, ROWS],
        type_id: 1,
        bytes: 2 * COLUMNS * ROWS,
    };
    let placed = layout(&metadata, &(0..TENSORS).map(spec).collect::<Vec<_>>()).unwrap();
    let mut bytes = placed.header;
    let mut state = 1u32;
    while (bytes.len() as u64) < placed.total {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let field = (state >> 16) as u16;
        // A sign, one of four exponents, ten bits of fraction.
        bytes.extend((field & 0x83ff | (6 + (field >> 13 & 3)) << 10).to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

fn prepared(model: &Path, kind: &str) -> Prepared {
    let options = recipe::Options::new(recipe::file_type(kind).unwrap());
    prepare(Job {
        model: model.to_owned(),
        types: Types::FileType(recipe::Options { pure: true, ..options }),
        statistics: Statistics::None,
        encoder: encode::by_name("ggml").unwrap(),
        metadata: None,
        overrides: Vec::new(),
        keep_split: false,
        pre: None,
    })
    .unwrap()
}

fn pipeline(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("f16.gguf");
    write_model(&model);
    let outputs =
        Outputs { model: folder.path().join("out.gguf"), manifest: None, report: None, force: true };
    let resources = Resources { memory: 128 << 20, threads: 0 };
    let cancel = AtomicBool::new(false);
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(COLUMNS * ROWS * TENSORS));
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, kind) in [("q8_0", "Q8_0"), ("q4_k", "Q4_K_S")] {
        let prepared = prepared(&model, kind);
        group.bench_function(name, |b| {
            b.iter(|| {
                black_box(prepared.run(None, &outputs, &resources, &cancel, &Silent)).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
