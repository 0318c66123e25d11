//! The curve of size against divergence of one model, and points of it that are really made and scored.

use std::path::{Path, PathBuf};

use kquant_formats::gguf::Metadata;
use serde::Serialize;
use tempfile::TempDir;

use super::allocated::overhead;
use super::{Job, Outputs, QuantizeError, Resources, prepare};
use crate::checkpoint;
use crate::context::{Context, Unit};
use crate::convert::convert;
use crate::encode::ENCODERS;
use crate::evaluate::{self, EvaluateError, Reference};
use crate::model::{Model, ModelError};
use crate::plan::{self, Division, Inventory, PlanError};
use crate::recipe::{Allocated, Allocation, FILE_TYPES, FileTypePoints, Market, PriceUnit};
use crate::text::Chunks;

/// A model whose curve is wanted.
pub struct SweepRequest<'a> {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    pub model: &'a Path,
    /// Name of the pre-tokenizer, when it is not recognised.
    pub pre: Option<&'a str>,
    /// Menu, prices and types that are named; the target does not count.
    pub allocation: &'a Allocation,
    /// Sizes between the smallest and the largest file.
    pub points: usize,
}

/// One size.
#[derive(Debug, Clone, Serialize)]
pub struct SweepPoint {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of tensor data times 8 over weights.
    pub bits_per_weight: f64,
    /// Sum of prices: the predicted KL divergence where the unit is nats.
    pub predicted: f64,
    /// What the next megabyte (1e6 bytes) saves, in the unit of prices; nothing at the last point.
    pub per_megabyte: Option<f64>,
    /// The KL divergence that was measured, where the file was made.
    pub measured: Option<f64>,
}

/// The whole curve.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// The unit of prices.
    pub unit: PriceUnit,
    /// Sizes, rising.
    pub points: Vec<SweepPoint>,
    /// llama-quantize's file types at the same prices.
    pub file_types: FileTypePoints,
    /// The choice of types of each point.
    #[serde(skip)]
    pub chosen: Vec<Allocated>,
}

/// How points are made and scored.
pub struct Measurement<'a> {
    /// The original.
    pub source: &'a Model,
    /// The text.
    pub chunks: &'a Chunks,
    /// How many points are made, evenly spaced along the curve.
    pub count: usize,
    /// Threads and memory of the runs.
    pub resources: &'a Resources,
}

/// Computes the curve; reads no tensor data.
///
/// # Errors
/// [`QuantizeError`] when the model is not understood, or the prices are not of it or of the menu.
pub fn sweep(request: &SweepRequest) -> Result<Sweep, QuantizeError> {
    let opened = checkpoint::open(request.model)?;
    let input = convert(&opened, request.pre, None)
        .map_err(|source| QuantizeError::Input { path: request.model.to_owned(), source })?;
    let curve = || -> Result<Sweep, PlanError> {
        let inventory = Inventory::new(&opened, &input, Division::OneFile)?;
        let provenance = Metadata::new();
        let plan = plan::Request {
            opened: &opened,
            input: &input,
            inventory: &inventory,
            choices: &[],
            file_type: &FILE_TYPES[0],
            encoder: ENCODERS[0],
            imatrix: None,
            provenance: &provenance,
            calibrated: false,
            overrides: &[],
            division: Division::OneFile,
        };
        let (facts, model) = (inventory.facts(), inventory.model_facts(true));
        let outside = overhead(request.allocation, &plan)?;
        let market = Market::new(request.allocation, &model, &facts, outside)?;
        let weights = facts.iter().map(|t| t.shape.iter().product::<u64>()).sum();
        let curve = market.curve(request.points);
        Ok(Sweep {
            unit: request.allocation.prices.origin.unit,
            points: points(&curve, outside.0, weights),
            file_types: market.file_types(&model),
            chosen: curve,
        })
    };
    curve().map_err(|source| QuantizeError::Plan { path: request.model.to_owned(), source })
}

fn points(curve: &[Allocated], overhead: u64, weights: u64) -> Vec<SweepPoint> {
    let saved = |i: usize| {
        let (here, next) = (curve.get(i)?, curve.get(i + 1)?);
        Some((here.cost - next.cost) / (next.bytes - here.bytes) as f64 * 1e6)
    };
    let point = |(i, allocated): (usize, &Allocated)| SweepPoint {
        bytes: allocated.bytes,
        bits_per_weight: 8.0 * (allocated.bytes - overhead) as f64 / weights.max(1) as f64,
        predicted: allocated.cost,
        per_megabyte: saved(i),
        measured: None,
    };
    curve.iter().enumerate().map(point).collect()
}

/// Makes the files of some points of `sweep` in a temporary folder, by the jobs that `job` gives for a choice of types, and scores them. What
/// was measured before a failure is kept.
///
/// # Errors
/// Fails as the job, its run or its evaluation does.
pub fn measure<E>(
    sweep: &mut Sweep,
    measurement: &Measurement,
    job: impl Fn(&Allocated) -> Result<Job, E>,
    context: &Context,
) -> Result<(), E>
where
    E: From<QuantizeError> + From<EvaluateError> + From<ModelError>,
{
    let folder = TempDir::with_prefix("kquant-").map_err(QuantizeError::Folder)?;
    let out: PathBuf = folder.path().join("point.gguf");
    for i in spaced(sweep.points.len(), measurement.count) {
        let (Some(point), Some(chosen)) = (sweep.points.get_mut(i), sweep.chosen.get(i)) else { continue };
        let prepared = prepare(job(chosen)?)?;
        let outputs = Outputs { model: out.clone(), manifest: None, report: None, force: true };
        let calibrated = prepared.calibrate(context.memory, context.cancel, context.progress, None)?;
        prepared.run(
            calibrated.as_ref(),
            &outputs,
            measurement.resources,
            context.cancel,
            context.progress,
        )?;
        let (source, chunks) = (measurement.source, measurement.chunks);
        let mut result = Model::open(&out, None)?;
        result.compute_in(source.products());
        context.progress.begin(evaluate::work(source, chunks) + evaluate::work(&result, chunks), Unit::Work);
        let reference = Reference::Model(source);
        let scored = evaluate::evaluate(&result, Some(&reference), chunks, None, context, &mut |_| {})?;
        point.measured = scored.comparison.map(|c| c.kl.mean);
    }
    Ok(())
}

/// `count` numbers below `points`, evenly spaced, without the two ends where there are enough.
fn spaced(points: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).map(|i| (2 * i + 1) * points / (2 * count)).collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_points_are_spread() {
        assert_eq!(spaced(24, 3), [4, 12, 20]);
        assert_eq!(spaced(2, 5), [0, 1]);
        assert_eq!(spaced(5, 0), [0; 0]);
    }
}
