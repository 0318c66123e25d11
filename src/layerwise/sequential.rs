//! Quantization inside the layer-major pass, one group of linear maps after the other.
//!
//! ```text
//! both streams through a stage -> moments of the group's input -> factor -> corrected targets -> encoded weights -> next stage
//! ```
//!
//! Sums run over the tokens in their order, so nothing depends on tiles, threads or memory.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use super::input::MatrixMethod;
use super::journal::Journal;
use super::outputs::OutputFishers;
use super::pass::SequentialPass;
use super::report::CalibrationReport;
use super::streams::Streams;
use crate::context::Progress;
use crate::encode::LayerMethod;
use crate::encode::feedback::Feedback;
use crate::layerwise::CalibratedError;
use crate::model::Model;
use crate::model::stages::Stages;
use crate::plan::Plan;
use crate::tensor::Stash;
use crate::text::Chunks;

/// The settings of a sequential pass.
#[derive(Clone, Copy)]
pub struct Sequential<'a> {
    /// The original model.
    pub model: &'a Model,
    /// The plan of the tensors to write.
    pub plan: &'a Plan,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// Options of rounding with feedback.
    pub layers: &'a dyn LayerMethod,
    /// The source of the Fisher matrices of outputs.
    pub outputs: OutputFishers<'a>,
    /// True if the output projection gets feedback as well.
    pub with_output: bool,
    /// Number of the last layer to go through; any large one for all of them.
    pub last_layer: usize,
    /// Memory for weights, moments, hidden states and buffers, in bytes.
    pub memory: u64,
    /// A flag that is set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// The receiver of progress, in the unit of [`Sequential::work`].
    pub progress: &'a dyn Progress,
    /// The journal of the run, if it has one.
    pub journal: Option<&'a Journal>,
}

impl Sequential<'_> {
    /// Returns the units of work: tokens times the number of stages and groups.
    pub fn work(model: &Model, chunks: &Chunks) -> u64 {
        (chunks.tokens().len() * (2 * model.groups() + model.hyper.layers)) as u64
    }

    /// Encodes the weights of all linear maps of the layers, and of the output projection if asked.
    ///
    /// # Errors
    /// Fails when the model cannot be run, an input's statistics cannot be used, memory is too little, or the run is
    /// cancelled.
    pub fn run(&self) -> Result<(Stash, CalibrationReport), CalibratedError> {
        let stages = self.model.stages(self.chunks.context())?;
        let left = self.memory - self.group_bytes(&stages, self.outputs.are_known())?;
        let (block, tile) = stages.block_and_tile(left / 4);
        let tokens = self.chunks.tokens().len();
        let pass = SequentialPass {
            job: self,
            streams: Streams::new(tokens.div_ceil(tile), tile * stages.widest_state(), left / 2)?,
            stages: &stages,
            block,
            tile,
            tensors: self.plan.tensors.iter().map(|t| (t.mapped.name.as_str(), t)).collect(),
            stash: Stash::new(left / 8),
            report: CalibrationReport { tokens: tokens as u64, ..CalibrationReport::default() },
            done: 0,
        };
        pass.run()
    }

    /// Checks that the largest group fits the memory, with feedback over `both_sides` or over columns alone.
    pub(super) fn check_memory(&self, both_sides: bool) -> Result<(), CalibratedError> {
        self.least_memory(both_sides).map(drop)
    }

    /// Returns the least memory that the pass can do with, in bytes.
    pub(super) fn least_memory(&self, both_sides: bool) -> Result<u64, CalibratedError> {
        let bytes = self.group_bytes(&self.model.stages(self.chunks.context())?, both_sides)?;
        Ok(bytes + bytes / 4)
    }

    /// Returns the method for a tensor, with feedback over rows if the factored Fisher matrix of its `outputs` is given.
    pub(super) fn method<'b>(&'b self, outputs: Option<&'b Feedback>) -> MatrixMethod<'b> {
        MatrixMethod { layers: self.layers, outputs, cancel: self.cancel }
    }

    /// Returns the bytes that the largest group takes: two sets of moments, factor, weights, targets and corrections.
    fn group_bytes(&self, stages: &Stages, both_sides: bool) -> Result<u64, CalibratedError> {
        let mut largest = BTreeMap::new();
        for (layer, cut) in stages.layers().iter().enumerate() {
            for group in cut.iter().filter_map(|s| s.group.as_ref()) {
                let names = stages.tensors(layer, group)?;
                let tensors: Vec<_> = names.iter().filter_map(|name| self.model.find(name)).collect();
                let columns = tensors.iter().map(|t| t.columns()).max().unwrap_or(0);
                let rows = tensors.iter().map(|t| t.rows_per_matrix()).max().unwrap_or(0);
                let lost = if group.residual { rows } else { columns };
                // A group of several matrices needs the layer's moments as well.
                let squares = if group.by.is_some() { 7 } else { 5 };
                let floats = OutputFishers::floats(both_sides, rows, columns)
                    + squares * columns * columns
                    + (2 * lost + 4 * rows) * columns;
                largest.insert(4 * floats, layer);
            }
        }
        let (bytes, layer) = largest.pop_last().unwrap_or((0, 0));
        // A quarter is added for hidden states and buffers.
        match bytes + bytes / 4 {
            needed if needed > self.memory => {
                Err(CalibratedError::Memory { what: format!("layer {layer}"), needed })
            }
            _ => Ok(bytes),
        }
    }
}
