//! Second moments of a tensor's inputs.

/// The mean outer product of the vectors that enter a tensor, `X'X / tokens`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hessian {
    /// Length n of the vectors.
    pub columns: usize,
    /// `[n][n]`, symmetric.
    pub mean: Vec<f32>,
    /// Number of vectors.
    pub tokens: u64,
}

impl Hessian {
    /// Returns the mean squares of the inputs, `[n]`: the importance vector.
    pub fn diagonal(&self) -> Vec<f32> {
        self.mean.iter().copied().step_by(self.columns + 1).collect()
    }
}
