//! How much work the encoder does.

/// Where the search for scales starts: what it weights the error of a column with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The mean square of the column's input.
    Importance,
    /// The same times `sqrt(sigma² + w²)`, as ggml does.
    Magnitude,
    /// What of the column's input the columns rounded after it cannot make up for: its pivot.
    Pivot,
    /// The same times `sqrt(sigma² + w²)`.
    PivotMagnitude,
}

/// Numbers of steps, and what is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Starts that are rounded; every row goes on with its best one. The first one's own codes are the row's last
    /// resort.
    pub starts: &'static [Start],
    /// How often scales are fitted and the row is rounded again.
    pub passes: usize,
    /// How often scales are fitted and codes are improved one by one after that.
    pub rounds: usize,
    /// Sweeps over the codes in each round.
    pub sweeps: usize,
    /// With feedback over rows: how often each row is encoded again with all others fixed.
    pub row_passes: usize,
}

impl Default for Options {
    /// On a small trained model more of all this takes 3 to 5 % off the KL divergence at 2 and 3 bits, for several times
    /// the time: `docs/measurements.md`.
    fn default() -> Self {
        Self { starts: &[Start::Importance], passes: 0, rounds: 1, sweeps: 1, row_passes: 1 }
    }
}

impl Options {
    /// Floating-point operations of the matrix products that `rows` rows of `columns` columns take, with feedback over
    /// `both_sides` or over columns alone.
    pub fn operations(&self, rows: u64, columns: usize, both_sides: bool) -> f64 {
        // In units of rows * columns²: a rounding or a judgement takes one, the fit of scales or a sweep two each.
        let judged = 1 + self.rounds.max(1);
        let units = self.starts.len() + 3 * self.passes + (2 + 2 * self.sweeps) * self.rounds + judged;
        let once = units as f64 * rows as f64 * (columns as f64).powi(2);
        if !both_sides {
            return once;
        }
        let passes = self.row_passes as f64;
        let (across, along) =
            ((rows as f64).powi(2) * columns as f64, rows as f64 * (columns as f64).powi(2));
        // Passes leave the two judgements and other starts' roundings out; the loss is judged once, changes by two products each way.
        let again = (units - judged) as f64 * along;
        once + passes * again + (1.0 + 2.0 * passes) * (along + across)
    }
}
