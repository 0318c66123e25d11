//! The amount of work that the encoder does.

/// The weights of columns' errors in the search for scales that rows start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Errors are weighted by the mean square of the column's input.
    Importance,
    /// Errors are weighted by the mean square of the column's input times `sqrt(sigma² + w²)`, as in ggml.
    Magnitude,
    /// Errors are weighted by the column's pivot: the part of its input that the columns rounded after it cannot
    /// compensate.
    Pivot,
    /// Errors are weighted by the column's pivot times `sqrt(sigma² + w²)`.
    PivotMagnitude,
}

/// The numbers of steps of each kind.
#[derive(Debug, Clone)]
pub struct Options {
    /// Starts that are rounded; every row goes on with its best one. The codes of the first start are kept where nothing
    /// better is found.
    pub starts: &'static [Start],
    /// Number of times that scales are fitted and the row is rounded again.
    pub passes: usize,
    /// Number of times that, after the passes, scales are fitted and codes are improved one by one.
    pub rounds: usize,
    /// Number of sweeps over the codes in each round.
    pub sweeps: usize,
    /// Number of times that each row is encoded again with all others fixed, in feedback over rows.
    pub row_passes: usize,
}

impl Default for Options {
    /// On a small trained model more steps of each kind take 3 to 5 % off the KL divergence at 2 and 3 bits, for several
    /// times the time: `docs/measurements.md`.
    fn default() -> Self {
        Self { starts: &[Start::Importance], passes: 0, rounds: 1, sweeps: 1, row_passes: 1 }
    }
}

impl Options {
    /// Returns the number of floating-point operations in the matrix products for `rows` rows of `columns` columns, with
    /// feedback over `both_sides` or over columns alone.
    pub fn operations(&self, rows: u64, columns: usize, both_sides: bool) -> f64 {
        // The unit is rows * columns²: rounding or computing a loss takes one, fitting scales or a sweep two each.
        let judged = 1 + self.rounds.max(1);
        let units = self.starts.len() + 3 * self.passes + (2 + 2 * self.sweeps) * self.rounds + judged;
        let once = units as f64 * rows as f64 * (columns as f64).powi(2);
        if !both_sides {
            return once;
        }
        let passes = self.row_passes as f64;
        let (across, along) =
            ((rows as f64).powi(2) * columns as f64, rows as f64 * (columns as f64).powi(2));
        // Row passes leave out two loss computations and the roundings of other starts; the loss is computed once, its
        // changes by two products each.
        let again = (units - judged) as f64 * along;
        once + passes * again + (1.0 + 2.0 * passes) * (along + across)
    }
}
