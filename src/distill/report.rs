//! What a distillation did.

use serde::{Deserialize, Serialize};

/// The divergence from the teacher on held-out text, some way into a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Steps before.
    pub step: usize,
    /// Tokens that were trained on before, repeated ones counted again.
    pub tokens: u64,
    /// Seconds since the run began.
    pub seconds: f64,
    /// Mean divergence from the teacher on held-out text, in nats per token.
    pub held_out: f64,
    /// The same on a text of another kind, which shows what is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<f64>,
    /// Mean divergence over the batches since the last measurement; `None` before the first step.
    pub trained: Option<f64>,
    /// Size of the largest steps before this; halved where steps made the student worse, which goes on from its best weights then.
    pub rate: f64,
}

/// The numbers of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DistillReport {
    /// Weights that were trained.
    pub weights: u64,
    /// Steps that were made.
    pub steps: usize,
    /// Tokens of a step.
    pub batch_tokens: usize,
    /// Divergences, from that of the student as it came to that of the end.
    pub course: Vec<Measured>,
    /// Steps after which the divergence was least; the weights of that moment are the result.
    pub best_step: usize,
}

impl DistillReport {
    /// Returns the divergence on held-out text before and after.
    pub fn before_and_after(&self) -> (f64, f64) {
        let least = self.course.iter().map(|m| m.held_out).fold(f64::INFINITY, f64::min);
        (self.course.first().map_or(f64::NAN, |m| m.held_out), least)
    }

    /// Returns true if the student has come closer to the teacher on held-out text.
    pub fn is_better(&self) -> bool {
        let (before, after) = self.before_and_after();
        after < before
    }
}
