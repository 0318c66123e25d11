//! What calibrated encoding did, tensor by tensor.

use std::time::Instant;

use serde::Serialize;

use crate::statistics::Unreached;

/// The whole run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Tokens of the text.
    pub tokens: u64,
    /// Tokens that only judged.
    pub held_out_tokens: u64,
    /// Every tensor that was encoded with feedback, in the order of the pass.
    pub tensors: Vec<TensorReport>,
    /// What was not done for want of statistics, and what to do about it.
    pub notes: Vec<String>,
    /// Experts that no token of the text reached.
    pub unreached: Unreached,
    /// Where the time went.
    pub steps: Steps,
}

/// The steps of a run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Steps {
    /// The backward pass, where rows get feedback; operations are not counted.
    pub backward: Step,
    /// Both streams through the layers; operations of linear maps alone.
    pub forward: Step,
    /// Sums of products over the tokens.
    pub moments: Step,
    /// Factors of the Hessians.
    pub factors: Step,
    /// Corrected targets.
    pub targets: Step,
    /// Rounding and its refinement; operations of matrix products alone.
    pub rounding: Step,
}

/// One of them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Step {
    /// Wall time.
    pub seconds: f64,
    /// Floating-point operations.
    pub operations: f64,
}

impl Step {
    /// Adds the time since `start` and `operations` done in it.
    pub(super) fn add(&mut self, start: Instant, operations: f64) {
        self.seconds += start.elapsed().as_secs_f64();
        self.operations += operations;
    }
}

impl Steps {
    /// All of them with their names, in order.
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

/// One tensor. Errors are sums over its rows of `e H e'`, e against the target, H of held-out text where there is some.
#[derive(Debug, Clone, Serialize)]
pub struct TensorReport {
    /// GGUF name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub columns: usize,
    /// Tokens seen per column.
    pub tokens_per_column: f64,
    /// Part of the Hessian that is of other matrices of the layer: 0 to 1, where few tokens met this one.
    pub layer: f64,
    /// Damping of the Hessian, as a fraction of its mean diagonal.
    pub damping: f64,
    /// How much of the correction for earlier losses was taken, 0 to 1.
    pub correction: f32,
    /// Whether rows got feedback, too. Errors are then sums over rows weighted by what the rows cost the model, and that of
    /// what is written counts how they add up.
    pub both_sides: bool,
    /// Error of ggml's encoder with this text's importance, estimated from every eighth row.
    pub ggml: f64,
    /// Error of the search.
    pub search: f64,
    /// Error of what is written.
    pub written: f64,
}

impl Report {
    /// Mean over the tensors of the natural logarithms of `of` relative to ggml's errors, as a ratio: each tensor counts
    /// alike, whatever the size of its activations.
    pub fn ratio(&self, of: impl Fn(&TensorReport) -> f64) -> f64 {
        let logs: Vec<f64> = self
            .tensors
            .iter()
            .filter(|t| t.ggml > 0.0 && of(t) > 0.0)
            .map(|t| (of(t) / t.ggml).ln())
            .collect();
        (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp()
    }

    /// Matrices whose Hessian is in part their layer's.
    pub fn pooled(&self) -> usize {
        self.tensors.iter().filter(|t| t.layer > 0.0).count()
    }

    /// The tensor with the fewest tokens per column.
    pub fn thinnest(&self) -> Option<&TensorReport> {
        self.tensors.iter().min_by(|a, b| a.tokens_per_column.total_cmp(&b.tokens_per_column))
    }
}
