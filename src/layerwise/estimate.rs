//! How long a calibrated run will take on this machine: its steps are timed on a little of the work.

use std::sync::atomic::AtomicBool;

use super::job::{Calibration, CalibrationSource, FisherSource};
use super::outputs::OutputFishers;
use super::report::Steps;
use super::{CalibratedError, Sequential};
use crate::context::Silent;
use crate::plan::{Plan, PlannedTensor};
use crate::tensor::{MappedTensor, TensorName};
use crate::text::Chunks;

/// Tokens of the timed run: enough that products run at their full rate.
const TOKENS: usize = 1024;

/// What a run will take.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Estimate {
    /// Wall time, in seconds.
    pub seconds: f64,
    /// Names of the steps and their wall times, in seconds.
    pub steps: Vec<(&'static str, f64)>,
    /// Least memory that the run can do with, in bytes.
    pub least_memory: u64,
    /// Bytes on the disk at most: the output and the journal beside it.
    pub disk: u64,
}

impl Calibration {
    /// Times the first layer with the first tokens of the text and one tensor to round, which takes seconds, and multiplies each step by
    /// what the run of `plan` has of it. Returns `None` where that says little: with statistics of a file, and for mixtures of experts,
    /// whose layers differ.
    ///
    /// # Errors
    /// Fails as [`Sequential::run`] does, above all when `memory` is too little.
    pub fn estimate(
        &self,
        plan: &Plan,
        memory: u64,
        cancel: &AtomicBool,
    ) -> Result<Option<Estimate>, CalibratedError> {
        let CalibrationSource::Text { chunks, .. } = &self.source else { return Ok(None) };
        let work = Work::of(plan, self);
        let Some((sample, tensor)) = sample(plan).filter(|_| self.model.hyper.experts.is_none()) else {
            return Ok(None);
        };
        let few = chunks.some(0..TOKENS.div_ceil(chunks.context()).clamp(1, chunks.len().max(1)));
        let run = Sequential {
            model: &self.model,
            plan: &sample,
            chunks: &few,
            layers: self.layers.as_ref(),
            outputs: OutputFishers::Unknown,
            with_output: false,
            last_layer: 0,
            memory,
            cancel,
            progress: &Silent,
            journal: None,
        };
        let least_memory = run.least_memory(self.both_sides.is_some())?;
        let (_, report) = run.run()?;
        let one = Work::of_tensors([&tensor].into_iter(), self);
        let steps = work.times(&report.steps, &one, (chunks, &few));
        let encoded: u64 = plan.tensors.iter().map(|tensor| tensor.bytes).sum();
        Ok(Some(Estimate {
            seconds: steps.iter().map(|(_, seconds)| seconds).sum(),
            steps,
            least_memory,
            disk: encoded + self.journal_bytes(plan),
        }))
    }
}

/// A plan that encodes the smallest tensor of the first layer that gets feedback, and nothing else; and that tensor.
fn sample(plan: &Plan) -> Option<(Plan, PlannedTensor)> {
    let first = |tensor: &&PlannedTensor| is_rounded(tensor) && of_first_layer(&tensor.mapped);
    let smallest = plan.tensors.iter().filter(first).min_by_key(|tensor| tensor.mapped.weights())?.clone();
    let mut sample = plan.clone();
    for tensor in &mut sample.tensors {
        tensor.copy = tensor.mapped.name != smallest.mapped.name;
    }
    Some((sample, smallest))
}

fn is_rounded(tensor: &PlannedTensor) -> bool {
    !tensor.copy && tensor.block.quantized && TensorName(&tensor.mapped.name).is_in_layers()
}

fn of_first_layer(tensor: &MappedTensor) -> bool {
    tensor.name.starts_with("blk.0.")
}

/// What there is to do, in floating-point operations or in weights.
#[derive(Default)]
struct Work {
    /// Weights of all matrices of the layers, rounded or not.
    weights: f64,
    /// Those of the first layer.
    of_first: f64,
    /// Operations of rounding.
    rounding: f64,
    /// Rows times squares of the columns of what is rounded, in proportion to which targets take time.
    squares: f64,
    /// Products of a token's gradients in the Fisher matrices of outputs, where the run gathers them.
    outer: f64,
}

impl Work {
    fn of(plan: &Plan, calibration: &Calibration) -> Self {
        Self::of_tensors(plan.tensors.iter(), calibration)
    }

    fn of_tensors<'a>(tensors: impl Iterator<Item = &'a PlannedTensor>, calibration: &Calibration) -> Self {
        let mut all = Self::default();
        for tensor in tensors {
            let mapped = &tensor.mapped;
            if mapped.shape.len() < 2 || !TensorName(&mapped.name).is_in_layers() {
                continue;
            }
            let (rows, columns) = (mapped.rows(), mapped.columns());
            all.weights += mapped.weights() as f64;
            if of_first_layer(mapped) {
                all.of_first += mapped.weights() as f64;
            }
            if is_rounded(tensor) {
                let both = calibration.both_sides.is_some();
                all.rounding += calibration.layers.operations(rows, columns as usize, both);
                all.squares += rows as f64 * (columns as f64).powi(2);
            }
            if matches!(calibration.both_sides, Some(FisherSource::Pass { .. })) {
                all.outer += (rows as f64).powi(2);
            }
        }
        all
    }

    /// Multiplies the times of a sample of one tensor, `one`, with as much text as `few`, to those of all of this.
    fn times(&self, sample: &Steps, one: &Self, (all, few): (&Chunks, &Chunks)) -> Vec<(&'static str, f64)> {
        let tokens = all.tokens().len() as f64 / few.tokens().len().max(1) as f64;
        let layers = self.weights / self.of_first.max(1.0);
        let rate = |step: super::report::Step| step.seconds / step.operations.max(1.0);
        // Back through the maps, for inputs and once more for the forward pass that is kept for them.
        let products = 6.0 * self.weights * rate(sample.forward) + self.outer * rate(sample.moments);
        let backward = if self.outer > 0.0 { products * all.tokens().len() as f64 } else { 0.0 };
        vec![
            ("backward", backward),
            ("forward", sample.forward.seconds * tokens * layers),
            ("moments", sample.moments.seconds * tokens * layers),
            ("factors", sample.factors.seconds * layers),
            ("targets", sample.targets.seconds * self.squares / one.squares.max(1.0)),
            ("rounding", sample.rounding.seconds * self.rounding / one.rounding.max(1.0)),
        ]
    }
}
