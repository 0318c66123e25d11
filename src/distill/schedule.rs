//! The size of steps by their number.

/// The share of steps over which their size rises.
const WARM_UP: f64 = 0.05;
/// The size of the last steps, as a share of the largest.
const LAST: f64 = 0.05;

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
}
