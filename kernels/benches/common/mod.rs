//! Settings and helpers that the benchmarks share.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use kquant_kernels::isa::Isa;

/// The number of operations above which code without the fused multiply-add instruction takes seconds.
const SCALAR_MOST: usize = 40_000_000;

/// Returns settings for short measurements, so that all benchmarks together take minutes.
pub fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
}

/// Measures `routine` as `name/ISA` on every instruction set that the machine has. One call works through `elements`
/// elements; scalar code is left out when these are more than it does in a moment.
pub fn on_each_isa(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    elements: usize,
    mut routine: impl FnMut(),
) {
    group.throughput(Throughput::Elements(elements as u64));
    for isa in Isa::available() {
        if isa.name() == "scalar" && elements > SCALAR_MOST {
            continue;
        }
        isa.force();
        group.bench_function(format!("{name}/{}", isa.name()), |b| b.iter(&mut routine));
    }
    Isa::best().force();
}

/// Returns numbers around zero, nearly normal, with a standard deviation of about 0.3.
pub fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| (uniform() + uniform() + uniform() + uniform()) / 2.0).collect()
}
