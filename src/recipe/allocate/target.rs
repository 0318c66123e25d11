//! What a file is to be, and the allocation that makes it so.

use super::{Allocated, Market, Range};
use crate::recipe::{PriceUnit, RecipeError};

/// What the file is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most this many bytes, header included.
    Size(u64),
    /// At most this many bits per weight of tensor data.
    BitsPerWeight(f64),
    /// The smallest file whose sum of prices, in nats of KL divergence per token, is at most this.
    PredictedKl(f64),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size(bytes) => write!(f, "size {bytes}"),
            Self::BitsPerWeight(bits) => write!(f, "bits per weight {bits}"),
            Self::PredictedKl(nats) => write!(f, "predicted KL divergence {nats}"),
        }
    }
}

impl Market<'_> {
    /// The allocation for the target that the market was made for.
    ///
    /// # Errors
    /// [`RecipeError::Target`] when no file of the menu is so, with both ends of what there is. Bytes above the largest file are no error, as a
    /// number of bytes is a limit.
    pub fn allocate(&self) -> Result<Allocated, RecipeError> {
        let (target, unit) = (self.allocation.target, self.allocation.prices.origin.unit);
        let range = self.range();
        match target {
            Target::Size(bytes) => self.of_size(bytes, target, &range),
            Target::BitsPerWeight(bits) => {
                let data = (bits * self.weights() as f64 / 8.0).floor();
                if !(data.is_finite() && data >= 0.0) {
                    return Err(self.out_of_range(target, &range));
                }
                self.of_size((data as u64).saturating_add(self.overhead()), target, &range)
            }
            Target::PredictedKl(_) if unit != PriceUnit::Nats => Err(RecipeError::NoDivergence),
            Target::PredictedKl(nats) => self.of_divergence(nats, &range),
        }
    }

    fn of_size(&self, bytes: u64, target: Target, range: &Range) -> Result<Allocated, RecipeError> {
        let found = self.within(bytes).ok_or_else(|| self.out_of_range(target, range))?;
        Ok(Allocated { unneeded: bytes.saturating_sub(range.bytes[1]), ..found })
    }

    /// The smallest file that bisection over sizes finds within `nats`.
    fn of_divergence(&self, nats: f64, range: &Range) -> Result<Allocated, RecipeError> {
        let target = Target::PredictedKl(nats);
        let fits = |bytes: u64| self.within(bytes).filter(|found| found.cost <= nats);
        let [mut below, mut enough] = range.bytes;
        if let Some(smallest) = fits(below) {
            return Ok(smallest);
        }
        let mut best = fits(enough).ok_or_else(|| self.out_of_range(target, range))?;
        while enough - below > 1 {
            let middle = below + (enough - below) / 2;
            match fits(middle) {
                Some(found) => {
                    // The file may be smaller than it was allowed to be.
                    enough = middle.min(found.bytes).max(below + 1);
                    best = found;
                }
                None => below = middle,
            }
        }
        Ok(best)
    }

    fn out_of_range(&self, target: Target, range: &Range) -> RecipeError {
        let bits = range
            .bytes
            .map(|bytes| 8.0 * bytes.saturating_sub(self.overhead()) as f64 / self.weights().max(1) as f64);
        let [least, most] = range.bytes;
        let ends = match target {
            Target::Size(_) => format!("{least} to {most} bytes"),
            Target::BitsPerWeight(_) => format!("{:.3} to {:.3} bits per weight", bits[0], bits[1]),
            Target::PredictedKl(_) => format!("{:.6} to {:.6} nats", range.costs[1], range.costs[0]),
        };
        RecipeError::Target { target: target.to_string(), ends }
    }
}
