//! Prints the weighted error of the search as a fraction of that of ggml's encoder, and the speed of both:
//! `cargo run --release -p kquant-kernels --example search_error [weights.f32]`, the file holding little-endian weights.
//!
//! Columns: rows; error without and with importance; millions of weights per second, by the median row, of ggml's
//! encoder, of the search beside it and of the search alone; superblocks in which ggml's was better.

use std::time::Instant;

use kquant_kernels::block::TYPES;
use kquant_kernels::isa::Isa;
use kquant_kernels::lattice::{Coded, Lattice, SearchOptions, column_weights, search};

const COLUMNS: usize = 1024;
const ROWS: usize = 128;
const ALONE: SearchOptions =
    SearchOptions { magnitude: kquant_kernels::lattice::Magnitude::Ignored, beside_ggml: false };

/// Numbers in 0..1 that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 >> 33) ^ (self.0 >> 13);
        f64::from(mixed as u32) / f64::from(u32::MAX)
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.next().max(1e-12).ln()).sqrt(), self.next());
        radius * (angle * std::f64::consts::TAU).cos()
    }

    /// Student's t with four degrees of freedom.
    fn heavy(&mut self) -> f64 {
        let chi: f64 = (0..4).map(|_| self.normal().powi(2)).sum();
        self.normal() / (chi / 4.0).sqrt()
    }
}

/// Rows to encode, by name.
fn all_rows(file: Option<String>) -> std::io::Result<Vec<(&'static str, Vec<f32>)>> {
    let mut noise = Noise(7);
    let mut all = vec![
        ("gaussian", (0..ROWS * COLUMNS).map(|_| (0.02 * noise.normal()) as f32).collect()),
        ("heavy-tailed", (0..ROWS * COLUMNS).map(|_| (0.02 * noise.heavy()) as f32).collect()),
    ];
    if let Some(path) = file {
        let bytes = std::fs::read(path)?;
        let (words, _) = bytes.as_chunks();
        let weights: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        let step = (weights.len() / COLUMNS / ROWS).max(1);
        let rows = weights.chunks_exact(COLUMNS).step_by(step).take(ROWS);
        all.push(("file", rows.flatten().copied().collect()));
    }
    Ok(all)
}

/// The rows coded, and millions of weights per second by the median row.
fn timed(rows: &[f32], encode: impl Fn(&[f32]) -> Coded) -> (Vec<Coded>, f64) {
    let mut seconds = Vec::new();
    let coded = rows.chunks_exact(COLUMNS).map(|row| {
        let start = Instant::now();
        let coded = encode(row);
        seconds.push(start.elapsed().as_secs_f64());
        coded
    });
    let coded = coded.collect();
    seconds.sort_by(f64::total_cmp);
    (coded, COLUMNS as f64 / seconds[seconds.len() / 2] * 1e-6)
}

/// The weighted error of all rows.
fn error(lattice: &Lattice, rows: &[f32], importance: Option<&[f32]>, coded: &[Coded]) -> f64 {
    let mut error = 0.0;
    for (coded, row) in coded.iter().zip(rows.chunks_exact(COLUMNS)) {
        let mut decoded = vec![0.0; COLUMNS];
        lattice.decode(coded, &mut decoded);
        let weights = column_weights(lattice, row, importance, false);
        for ((a, w), decoded) in weights.iter().zip(row).zip(decoded) {
            error += a * (f64::from(decoded) - f64::from(*w)).powi(2);
        }
    }
    error
}

/// The share of superblocks in which two codings differ.
fn share_of_changed(lattice: &Lattice, a: &[Coded], b: &[Coded]) -> f64 {
    let superblocks = |coded: &[Coded]| -> Vec<Vec<u8>> {
        coded.iter().flat_map(|c| c.codes.chunks(lattice.superblock).map(<[u8]>::to_vec)).collect()
    };
    let (a, b) = (superblocks(a), superblocks(b));
    a.iter().zip(&b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64
}

fn main() -> std::io::Result<()> {
    let all = all_rows(std::env::args().nth(1))?;
    let mut noise = Noise(11);
    let importance: Vec<f32> = (0..COLUMNS).map(|_| noise.normal().exp() as f32).collect();
    println!("| type | rows | plain | weighted | ggml M/s | search M/s | alone M/s | ggml better |");
    println!("|---|---|---|---|---|---|---|---|");
    for lattice in TYPES.iter().filter_map(|ty| Lattice::of(ty)) {
        let Some(ggml) = lattice.block.encode else { continue };
        for (name, rows) in &all {
            let compare = |importance: Option<&[f32]>| {
                let (theirs, ggml_speed) = timed(rows, |row| {
                    let mut bytes = vec![0; COLUMNS / lattice.block.elements * lattice.block.bytes];
                    ggml(Isa::best(), row, importance, &mut bytes);
                    lattice.read(&bytes, COLUMNS)
                });
                let (ours, speed) =
                    timed(rows, |row| search(lattice, row, importance, SearchOptions::default()));
                let (alone, alone_speed) = timed(rows, |row| search(lattice, row, importance, ALONE));
                let ratio =
                    error(lattice, rows, importance, &ours) / error(lattice, rows, importance, &theirs);
                let better = share_of_changed(lattice, &ours, &alone);
                (ratio, [ggml_speed, speed, alone_speed], better)
            };
            let (plain, ..) = compare(None);
            let (weighted, [ggml, search, alone], better) = compare(Some(&importance));
            println!(
                "| {} | {name} | {plain:.3} | {weighted:.3} | {ggml:.1} | {search:.1} | {alone:.1} | {:.2} % |",
                lattice.block.name,
                100.0 * better
            );
        }
    }
    Ok(())
}
