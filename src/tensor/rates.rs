//! The rates of a recurrence from their logarithms.

/// Returns `-exp(log)`, computed in f64 and rounded to f32, so that it is the same on every platform. PyTorch's exponential, which
/// the converter uses, is within 0.51 units in the last place: one rate in a hundred or so is the next number.
pub fn rate(log: f32) -> f32 {
    -(f64::from(log).exp() as f32)
}
