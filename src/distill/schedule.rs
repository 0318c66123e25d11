//! The size of steps by their number.

/// The share of steps over which their size rises.
const WARM_UP: f64 = 0.05;
/// The size of the last steps, as a share of the largest.
const LAST: f64 = 0.05;

/// Number of measurements on held-out text on the way.
const MEASUREMENTS: usize = 10;

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// A number of steps.
    Steps(usize),
    /// Seconds. What is reached then, and with it the result, depends on the machine.
    Seconds(f64),
}

impl Length {
    /// Returns the size of step `step`, from 0, that is made after `seconds` seconds, as a share of the largest.
    pub(super) fn share(self, step: usize, seconds: f64) -> f64 {
        match self {
            Self::Steps(steps) => share(step, steps),
            // A thousand steps stand for the time, so that the shape is the same.
            Self::Seconds(all) => share((seconds / all * 1000.0).min(999.0) as usize, 1000),
        }
    }

    /// Returns true if no step follows `step` steps in `seconds` seconds.
    pub(super) fn is_over(self, step: usize, seconds: f64) -> bool {
        match self {
            Self::Steps(steps) => step >= steps,
            Self::Seconds(all) => seconds >= all,
        }
    }

    /// Returns how many measurements are due after `step` steps in `seconds` seconds, the one before the first step not counted.
    pub(super) fn due(self, step: usize, seconds: f64) -> usize {
        match self {
            Self::Steps(steps) if step >= steps => MEASUREMENTS,
            Self::Steps(steps) => step / steps.div_ceil(MEASUREMENTS).max(1),
            Self::Seconds(all) => ((seconds / all * MEASUREMENTS as f64) as usize).min(MEASUREMENTS),
        }
    }
}

/// Returns the size of step `step`, from 0, of `steps` as a share of the largest: it rises over the first twentieth, then falls as
/// half a period of a cosine to a twentieth.
pub(super) fn share(step: usize, steps: usize) -> f64 {
    let warm_up = (steps as f64 * WARM_UP).max(1.0);
    let at = step as f64;
    if at + 1.0 < warm_up {
        return (at + 1.0) / warm_up;
    }
    let way = ((at - warm_up + 1.0) / (steps as f64 - warm_up).max(1.0)).clamp(0.0, 1.0);
    LAST + (1.0 - LAST) * (1.0 + (way * std::f64::consts::PI).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_rise_and_fall() {
        let all: Vec<f64> = (0..100).map(|step| share(step, 100)).collect();
        assert!((all[0] - 0.2).abs() < 1e-12 && (all[4] - 1.0).abs() < 1e-12, "{:?}", &all[..6]);
        assert!(all[4..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!((all[99] - LAST).abs() < 1e-3);
        assert!((share(0, 1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn time_takes_the_place_of_steps() {
        let (steps, time) = (Length::Steps(50), Length::Seconds(100.0));
        assert!((time.share(3, 50.0) - share(500, 1000)).abs() < 1e-12 && time.share(9, 500.0) < 0.06);
        assert_eq!((steps.is_over(49, 1e9), steps.is_over(50, 0.0)), (false, true));
        assert_eq!((time.is_over(1000, 99.0), time.is_over(0, 100.0)), (false, true));
        assert_eq!([0, 4, 5, 49, 50].map(|step| steps.due(step, 0.0)), [0, 0, 1, 9, 10]);
        assert_eq!([0.0, 9.0, 10.0, 99.0, 101.0].map(|seconds| time.due(7, seconds)), [0, 0, 1, 9, 10]);
    }
}
