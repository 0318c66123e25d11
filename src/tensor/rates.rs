//! The rates of a recurrence from their logarithms.

/// Returns `-exp(log)`, rounded as PyTorch's vectors round it, so that files equal the converter's byte for byte.
///
/// Source: `expf` of the SLEEF library within one unit in the last place (Shibata and Petrogalli, SLEEF: A Portable Vectorized
/// Library of C Standard Mathematical Functions, 2020): Cody and Waite's reduction, and a polynomial of which every step is
/// rounded once.
pub fn rate(log: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    const POLYNOMIAL: [f32; 6] =
        [0.000_198_527_62, 0.001_393_043_6, 0.008_333_361, 0.041_666_485, 0.166_666_67, 0.5];
    // Where the result overflows or vanishes, no step is needed.
    let log = log.clamp(-104.0, 100.0);
    let power = (log * std::f32::consts::LOG2_E).round_ties_even();
    let rest = power.mul_add(-LN_2_LOW, power.mul_add(-LN_2_HIGH, log));
    let tail = POLYNOMIAL.into_iter().fold(0.0f32, |sum, next| sum.mul_add(rest, next));
    let mantissa = 1.0 + (rest * rest).mul_add(tail, rest);
    // The power of two is exact in f64, and so is the product until it is rounded to f32.
    -((f64::from(mantissa) * f64::from(power).exp2()) as f32)
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_are_exponentials_within_one_unit() {
        for i in -800..800 {
            let log = i as f32 / 16.0;
            let exact = -f64::from(log).exp();
            assert!((f64::from(rate(log)) / exact - 1.0).abs() < 1.2e-7, "{log}");
        }
        assert_eq!([-200.0, 0.0, 200.0].map(rate), [-0.0, -1.0, f32::NEG_INFINITY]);
    }
}
