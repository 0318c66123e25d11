//! The exponential function of f32, in operations that become vector instructions.

/// 1.5 * 2^23: added to a float of magnitude under 2^22 it leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// The high part of ln 2, which has 9 bits so that its multiples up to 150 are exact, and below it the rest.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// The polynomial of `(exp(r) - 1 - r) / r²` for `|r| <= ln 2 / 2`, lowest power first. It is minimax in the relative
/// error of exp, which is 1.2e-9 (fitted by reweighted least squares, then rounded).
const POLYNOMIAL: [f32; 6] =
    [0.5, 0.166_666_66, 0.041_666_29, 0.008_333_499, 0.001_394_486_9, 0.000_197_901_35];
/// The number below which the result is 0, and below it the number above which the result is infinite.
const LOWEST: f32 = -104.0;
const HIGHEST: f32 = 89.0;

/// Returns e to the power of `x`, within one unit in the last place, subnormal results included.
///
/// Source: the usual reduction `x = n ln 2 + r` (Cody and Waite, Software Manual for the Elementary Functions, 1980).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // These comparisons let NaN through.
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let [c0, c1, c2, c3, c4, c5] = POLYNOMIAL;
    let q = ((((c5 * r + c4) * r + c3) * r + c2) * r + c1) * r + c0;
    let p = q * (r * r) + r + 1.0;
    // The power 2^n is split into two factors, because n goes past the exponents of f32 on both sides.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// Returns `2^n` for n in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::exp;

    /// Returns the distance to the true value in units of the last place around the true value.
    fn error(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        let nearest = exact as f32;
        let unit = f64::from(nearest.next_up()) - f64::from(nearest);
        (f64::from(exp(x)) - exact).abs() / unit
    }

    #[test]
    fn within_one_unit_in_the_last_place() {
        // The test covers every 997th float of each sign, from the smallest to the ends of the range.
        for end in [88.72_f32, -103.9] {
            for bits in (0..=end.abs().to_bits()).step_by(997) {
                let x = f32::from_bits(bits).copysign(end);
                assert!(error(x) <= 1.0, "exp({x:e}) is off by {} units", error(x));
            }
        }
    }

    #[test]
    fn special_values() {
        assert_eq!([0.0, -0.0].map(exp), [1.0, 1.0]);
        assert_eq!([f32::INFINITY, 88.73, 1e30].map(exp), [f32::INFINITY; 3]);
        assert_eq!([f32::NEG_INFINITY, -104.0, -1e30].map(exp), [0.0; 3]);
        assert_eq!(exp(-103.0), f32::from_bits(1));
        assert!(exp(f32::NAN).is_nan());
    }
}
