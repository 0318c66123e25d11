//! Statistics of two groups of tensors, and of one with Fisher matrices.
use std::path::Path;

use kquant_formats::FormatError;
use kquant_formats::hessian::{
    BlockRange, Blocks, Cut, Description, Fisher, Fishers, Group, GroupSums, Half, HessianWriter,
};
use kquant_formats::imatrix::Entry;

/// SHA-256 of the text.
pub const TEXT: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub fn group(tensors: &[&str], columns: usize) -> Group {
    Group { tensors: tensors.iter().map(|&t| t.to_owned()).collect(), columns, matrices: 1 }
}

pub fn description() -> Description {
    Description {
        datasets: vec!["text".into()],
        chunks: 20,
        cut: Cut { context: 64, block_tokens: 512, held_out_every: 8 },
        blocks: Blocks::of(TEXT, BlockRange { first: 6, end: 9 }),
        groups: vec![group(&["q", "k"], 3), group(&["o"], 2)],
        fishers: None,
    }
}

pub fn entry(sums: &[f32], count: f32) -> Entry {
    Entry { columns: sums.len(), matrices: 1, sums: sums.to_vec(), counts: vec![count] }
}

pub fn write(path: &Path) -> Result<(), FormatError> {
    let writer = HessianWriter::create(path, &description(), false)?;
    let (q, o) = (entry(&[1.0, 4.0, 9.0], 1280.0), entry(&[2.0, 0.0], 1280.0));
    writer.write_outer((1, 0), Half::HeldOut, &[0.5, -0.25, 8.0])?;
    writer.write_sums(
        1,
        &GroupSums { entry: &o, high: &[2.0, 0.0], low: &[1e-17, 0.0], tokens: &[[768, 512]] },
    )?;
    writer.write_outer((1, 0), Half::Train, &[1.5, 0.25, 0.0])?;
    writer.write_outer((0, 0), Half::Train, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    writer.write_outer((0, 0), Half::HeldOut, &[0.0; 6])?;
    writer.write_sums(
        0,
        &GroupSums { entry: &q, high: &[1.0, 4.0, 9.0], low: &[0.0; 3], tokens: &[[1280, 0]] },
    )?;
    writer.finish()
}

pub fn fishers() -> Fishers {
    let fisher = |tensor: &str, outputs| Fisher { tensor: tensor.into(), outputs };
    Fishers { seed: 9, tensors: vec![fisher("q", 2), fisher("output.weight", 4)] }
}

/// Writes a group of one tensor and two Fisher matrices.
pub fn write_with_fishers(path: &Path) -> Result<(), FormatError> {
    let description =
        Description { groups: vec![group(&["q"], 3)], fishers: Some(fishers()), ..description() };
    let writer = HessianWriter::create(path, &description, false)?;
    let sums =
        GroupSums { entry: &entry(&[1.0; 3], 1.0), high: &[1.0; 3], low: &[0.0; 3], tokens: &[[1, 0]] };
    writer.write_sums(0, &sums)?;
    Half::ALL.iter().try_for_each(|&half| writer.write_outer((0, 0), half, &[1.0; 6]))?;
    writer.write_fisher(0, 5, &[1.0, -2.0, 3.0])?;
    writer.write_fisher(1, 6, &[0.5, 0.0, 1.0, 2.0])?;
    writer.finish()
}
