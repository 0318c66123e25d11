//! Quantization inside the layer-major pass, group of linear maps after group.
//!
//! ```text
//! both streams through a stage -> moments of the group's input -> factor -> corrected targets -> encoded weights -> next stage
//! ```
//!
//! Sums run over the tokens in their order, so nothing depends on tiles, threads or memory.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use super::input::Method;
use super::outputs::Outputs;
use super::pass::Pass;
use super::report::Report;
use super::streams::Streams;
use crate::context::Progress;
use crate::encode::feedback;
use crate::encode::feedback::Feedback;
use crate::layerwise::CalibratedError;
use crate::model::Model;
use crate::model::stages::Stages;
use crate::plan::Plan;
use crate::tensor::Stash;
use crate::text::Chunks;

/// A pass to come.
#[derive(Clone, Copy)]
pub struct Sequential<'a> {
    /// The original.
    pub model: &'a Model,
    /// What its tensors become.
    pub plan: &'a Plan,
    /// The text.
    pub chunks: &'a Chunks,
    /// How weights are rounded with feedback.
    pub options: &'a feedback::Options,
    /// What errors of outputs cost the model.
    pub outputs: Outputs<'a>,
    /// Whether the output projection gets feedback, too.
    pub with_output: bool,
    /// Bytes for weights, moments, hidden states and buffers.
    pub memory: u64,
    /// Set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// Told of work done, in the unit of [`Sequential::work`].
    pub progress: &'a dyn Progress,
}

impl Sequential<'_> {
    /// Units of work: tokens times stages and groups.
    pub fn work(model: &Model, chunks: &Chunks) -> u64 {
        (chunks.tokens().len() * (2 * model.groups() + model.hyper.layers)) as u64
    }

    /// Encodes the weights of all linear maps of the layers, and of the output if asked.
    ///
    /// # Errors
    /// When the model cannot be run, an input's statistics are of no use, memory is too little, or the run is cancelled.
    pub fn run(&self) -> Result<(Stash, Report), CalibratedError> {
        let stages = self.model.stages(self.chunks.context())?;
        let left = self.memory - self.group_bytes(&stages, self.outputs.are_known())?;
        let (block, tile) = stages.block_and_tile(left / 4);
        let tokens = self.chunks.tokens().len();
        let pass = Pass {
            job: self,
            streams: Streams::new(tokens.div_ceil(tile), tile * stages.widest_state(), left / 2)?,
            stages: &stages,
            block,
            tile,
            tensors: self.plan.tensors.iter().map(|t| (t.mapped.name.as_str(), t)).collect(),
            stash: Stash::new(left / 8),
            report: Report { tokens: tokens as u64, ..Report::default() },
            done: 0,
        };
        pass.run()
    }

    /// Checks that the largest group fits the memory, with feedback over `both_sides` or over columns alone.
    pub(super) fn check_memory(&self, both_sides: bool) -> Result<(), CalibratedError> {
        self.group_bytes(&self.model.stages(self.chunks.context())?, both_sides).map(drop)
    }

    /// How a tensor is encoded whose `outputs` are known, or not.
    pub(super) fn method<'b>(&'b self, outputs: Option<&'b Feedback>) -> Method<'b> {
        Method { options: self.options, outputs, cancel: self.cancel }
    }

    /// Bytes that the largest group takes: moments twice, factor, weights, targets, corrections.
    fn group_bytes(&self, stages: &Stages, both_sides: bool) -> Result<u64, CalibratedError> {
        let mut largest = BTreeMap::new();
        for (layer, cut) in stages.layers().iter().enumerate() {
            for group in cut.iter().filter_map(|s| s.group.as_ref()) {
                let names = stages.tensors(layer, group)?;
                let tensors: Vec<_> = names.iter().filter_map(|name| self.model.find(name)).collect();
                let columns = tensors.iter().map(|t| t.columns()).max().unwrap_or(0);
                let rows = tensors.iter().map(|t| t.rows_per_matrix()).max().unwrap_or(0);
                let lost = if group.residual { rows } else { columns };
                // Of several matrices the layer's moments besides.
                let squares = if group.by.is_some() { 7 } else { 5 };
                let floats = Outputs::floats(both_sides, rows, columns)
                    + squares * columns * columns
                    + (2 * lost + 4 * rows) * columns;
                largest.insert(4 * floats, layer);
            }
        }
        let (bytes, layer) = largest.pop_last().unwrap_or((0, 0));
        // A quarter more for hidden states and buffers.
        match bytes + bytes / 4 {
            needed if needed > self.memory => {
                Err(CalibratedError::Memory { what: format!("layer {layer}"), needed })
            }
            _ => Ok(bytes),
        }
    }
}
