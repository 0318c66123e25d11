//! The whole curve of size against cost, and where llama-quantize's file types lie beside it.

use serde::Serialize;

use super::{Allocated, Market};
use crate::recipe::{FILE_TYPES, FileType, ModelFacts, Options, Reason, assign};

/// A file type of llama-quantize at the prices of a list.
#[derive(Debug, Clone, Serialize)]
pub struct FileTypePoint {
    /// Its name.
    pub name: &'static str,
    /// Bytes of the file.
    pub bytes: u64,
    /// Sum of the prices of its types.
    pub cost: f64,
    /// The least sum that was found for a file of its bytes.
    pub best: Option<f64>,
    /// The first of the other file types that is no larger and costs no more.
    pub dominated_by: Option<&'static str>,
}

/// File types beside a curve.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FileTypePoints {
    /// Those whose types all have prices, by rising bytes.
    pub priced: Vec<FileTypePoint>,
    /// Names of the others.
    pub unpriced: Vec<&'static str>,
}

impl Market<'_> {
    /// The best files of `points` sizes, evenly spaced from the smallest to the largest file; equal ones are left out.
    pub fn curve(&self, points: usize) -> Vec<Allocated> {
        let [least, most] = self.range().bytes;
        let steps = points.saturating_sub(1).max(1) as u64;
        let size = |i: u64| least + ((most - least) as u128 * u128::from(i) / u128::from(steps)) as u64;
        let mut curve: Vec<Allocated> = (0..=steps).filter_map(|i| self.within(size(i))).collect();
        curve.dedup_by_key(|allocated| allocated.bytes);
        curve
    }

    /// llama-quantize's quantized file types at the prices of the market, with the types that the user names.
    pub fn file_types(&self, model: &ModelFacts) -> FileTypePoints {
        let mut points = FileTypePoints::default();
        for file_type in FILE_TYPES.iter().filter(|t| t.base.is_some_and(|base| !is_plain(base))) {
            match self.point(file_type, model) {
                Some(point) => points.priced.push(point),
                None => points.unpriced.push(file_type.name),
            }
        }
        points.priced.sort_by_key(|point| point.bytes);
        let dominating = |point: &FileTypePoint| {
            let beats = |other: &&FileTypePoint| {
                let better = other.bytes < point.bytes || other.cost < point.cost;
                other.bytes <= point.bytes && other.cost <= point.cost && better
            };
            points.priced.iter().find(beats).map(|other| other.name)
        };
        let dominated: Vec<_> = points.priced.iter().map(dominating).collect();
        for (point, by) in points.priced.iter_mut().zip(dominated) {
            point.dominated_by = by;
        }
        points
    }

    /// The file type's bytes and cost; `None` where it cannot be had or one of its types has no price.
    fn point(&self, file_type: &'static FileType, model: &ModelFacts) -> Option<FileTypePoint> {
        let mut options = Options::new(file_type);
        options.overrides = self.allocation.overrides.clone();
        let choices = assign(&options, model, self.tensors).ok()?;
        let (mut bytes, mut cost) = (self.overhead(), 0.0);
        for (tensor, choice) in self.tensors.iter().zip(&choices) {
            let (padded, price) = self.offer(tensor, choice.block)?;
            bytes += padded;
            cost += if choice.reason == Reason::Kept { 0.0 } else { price? };
        }
        let best = self.within(bytes).map(|allocated| allocated.cost);
        Some(FileTypePoint { name: file_type.name, bytes, cost, best, dominated_by: None })
    }
}

/// Whether a file type's base type is plain numbers.
fn is_plain(base: &str) -> bool {
    matches!(base, "F32" | "F16" | "BF16")
}
