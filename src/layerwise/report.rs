//! The report of calibrated encoding, tensor by tensor.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::statistics::Unreached;

/// The report of a whole run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// Number of tokens of the text.
    pub tokens: u64,
    /// Number of held-out tokens.
    pub held_out_tokens: u64,
    /// Reports of the tensors that were encoded with feedback, in the order of the pass.
    pub tensors: Vec<TensorReport>,
    /// Sentences on what was not done for want of statistics, and on the remedy.
    pub notes: Vec<String>,
    /// Experts that no token of the text reached.
    pub unreached: Unreached,
    /// Time spent in each step.
    pub steps: Steps,
}

/// The steps of a run.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Steps {
    /// The backward pass, where there is feedback over rows; its operations are not counted.
    pub backward: Step,
    /// The forward pass of both streams; only the operations of linear maps are counted.
    pub forward: Step,
    /// The sums of products over the tokens.
    pub moments: Step,
    /// The factorization of the Hessians.
    pub factors: Step,
    /// The computation of corrected targets.
    pub targets: Step,
    /// Rounding and its refinement; only the operations of matrix products are counted.
    pub rounding: Step,
}

/// The time and work of one step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Step {
    /// Wall time, in seconds.
    pub seconds: f64,
    /// Number of floating-point operations.
    pub operations: f64,
}

impl Step {
    /// Adds the time since `start` and the `operations` done in it.
    pub(super) fn add(&mut self, start: Instant, operations: f64) {
        self.seconds += start.elapsed().as_secs_f64();
        self.operations += operations;
    }
}

impl Steps {
    /// Returns all steps with their names, in order.
    pub fn named(&self) -> [(&'static str, Step); 6] {
        [
            ("backward", self.backward),
            ("forward", self.forward),
            ("moments", self.moments),
            ("factors", self.factors),
            ("targets", self.targets),
            ("rounding", self.rounding),
        ]
    }
}

/// The report of one tensor. Errors are sums over its rows of `e H e'`, with e the difference from the target and H the
/// held-out Hessian, if there is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TensorReport {
    /// GGUF name of the tensor.
    pub name: String,
    /// Name of the tensor's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number of rows.
    pub rows: u64,
    /// Number of columns.
    pub columns: usize,
    /// Number of tokens seen per column.
    pub tokens_per_column: f64,
    /// Share of the Hessian that comes from the other matrices of the layer, 0 to 1; above 0 where few tokens reached
    /// this one.
    pub layer: f64,
    /// Damping of the Hessian, as a fraction of its mean diagonal.
    pub damping: f64,
    /// Share of the correction for earlier losses that was taken, 0 to 1.
    pub correction: f32,
    /// True if there was feedback over rows as well. Errors are then sums over rows weighted by their cost to the model,
    /// and the error of what is written includes the interaction of rows.
    pub both_sides: bool,
    /// Error of ggml's encoder with this text's importance, estimated from every eighth row.
    pub ggml: f64,
    /// Error of the first search, before feedback.
    pub search: f64,
    /// Error of the written encoding.
    pub written: f64,
}

impl CalibrationReport {
    /// Returns the geometric mean over the tensors of the ratio of `of` to ggml's error: each tensor counts alike,
    /// whatever the size of its activations.
    pub fn ratio(&self, of: impl Fn(&TensorReport) -> f64) -> f64 {
        let logs: Vec<f64> = self
            .tensors
            .iter()
            .filter(|t| t.ggml > 0.0 && of(t) > 0.0)
            .map(|t| (of(t) / t.ggml).ln())
            .collect();
        (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp()
    }

    /// Returns the number of matrices whose Hessian is blended with their layer's.
    pub fn pooled(&self) -> usize {
        self.tensors.iter().filter(|t| t.layer > 0.0).count()
    }

    /// Returns the tensor with the fewest tokens per column.
    pub fn thinnest(&self) -> Option<&TensorReport> {
        self.tensors.iter().min_by(|a, b| a.tokens_per_column.total_cmp(&b.tokens_per_column))
    }
}
