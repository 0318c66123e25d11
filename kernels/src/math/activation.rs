//! The activation functions of feed-forward layers and of logits, in place.

use super::exp::exp;
use crate::isa::per_isa;

per_isa! {
    /// Computes `gate = silu(gate) * up`, both `[n]`, with `silu(x) = x / (1 + exp(-x))`.
    ///
    /// Source: the SwiGLU layer of Shazeer, GLU Variants Improve Transformer, 2020.
    pub fn silu_gate, silu_gate_on(gate: &mut [f32], up: &[f32]) {
        assert!(gate.len() == up.len(), "gate and up differ in length: {} and {}", gate.len(), up.len());
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = times_sigmoid(*gate, *gate) * up;
        }
    }
}

per_isa! {
    /// Computes `x / (1 + exp(-x))` for each of `x` `[n]`.
    ///
    /// Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.
    pub fn silu, silu_on(x: &mut [f32]) {
        for x in x {
            *x = times_sigmoid(*x, *x);
        }
    }
}

per_isa! {
    /// Computes `gate = sigmoid(gate) * up`, both `[n]`.
    pub fn sigmoid_gate, sigmoid_gate_on(gate: &mut [f32], up: &[f32]) {
        assert!(gate.len() == up.len(), "gate and up differ in length: {} and {}", gate.len(), up.len());
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = times_sigmoid(*up, *gate);
        }
    }
}

per_isa! {
    /// Computes `x / 2 * (1 + tanh(sqrt(2 / π) * (x + 0.044715 x³)))` for each of `x` `[n]`: GELU by its tanh
    /// formula, the `gelu_new` of GPT-2.
    ///
    /// Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.
    pub fn gelu_tanh, gelu_tanh_on(x: &mut [f32]) {
        for x in x {
            // The term (1 + tanh(u)) / 2 is the sigmoid of 2u.
            *x = times_sigmoid(*x, 2.0 * SQRT_2_OVER_PI * (*x + 0.044_715 * *x * *x * *x));
        }
    }
}

per_isa! {
    /// Computes `x / 2 * (1 + erf(x / sqrt(2)))` for each of `x` `[n]`: GELU by its definition.
    ///
    /// Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.
    pub fn gelu_erf, gelu_erf_on(x: &mut [f32]) {
        for x in x {
            let tail = 0.5 * erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
            *x *= if *x < 0.0 { tail } else { 1.0 - tail };
        }
    }
}

per_isa! {
    /// Computes the square of `max(x, 0)` for each of `x` `[n]`.
    ///
    /// Source: So et al., Primer: Searching for Efficient Transformers for Language Modeling, 2021.
    pub fn relu_squared, relu_squared_on(x: &mut [f32]) {
        for x in x {
            let above = if *x > 0.0 { *x } else { 0.0 };
            *x = above * above;
        }
    }
}

per_isa! {
    /// Computes `gate = max(gate, 0)² * up`, both `[n]` (BitNet b1.58).
    pub fn relu_squared_gate, relu_squared_gate_on(gate: &mut [f32], up: &[f32]) {
        assert!(gate.len() == up.len(), "gate and up differ in length: {} and {}", gate.len(), up.len());
        for (gate, up) in gate.iter_mut().zip(up) {
            let above = if *gate > 0.0 { *gate } else { 0.0 };
            *gate = above * above * up;
        }
    }
}

per_isa! {
    /// Computes `gate = gelu(gate) * up`, both `[n]`, by the tanh formula of [`gelu_tanh`].
    pub fn gelu_gate, gelu_gate_on(gate: &mut [f32], up: &[f32]) {
        assert!(gate.len() == up.len(), "gate and up differ in length: {} and {}", gate.len(), up.len());
        for (gate, up) in gate.iter_mut().zip(up) {
            let x = *gate;
            *gate = times_sigmoid(x, 2.0 * SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)) * up;
        }
    }
}

per_isa! {
    /// Computes `gate = gelu(gate) * up`, both `[n]`, by the definition of [`gelu_erf`].
    pub fn gelu_erf_gate, gelu_erf_gate_on(gate: &mut [f32], up: &[f32]) {
        assert!(gate.len() == up.len(), "gate and up differ in length: {} and {}", gate.len(), up.len());
        for (gate, up) in gate.iter_mut().zip(up) {
            let tail = 0.5 * erfc(gate.abs() * std::f32::consts::FRAC_1_SQRT_2);
            *gate *= if *gate < 0.0 { tail } else { 1.0 - tail } * up;
        }
    }
}

per_isa! {
    /// Computes `gate = g / (1 + exp(-1.702 g)) * (u + 1)`, both `[n]`, where g is the gate, at most `limit`, and u
    /// is up, within `±limit`.
    ///
    /// Source: the activation of gpt-oss, in its reference implementation and in transformers' `GptOssExperts`.
    pub fn clamped_gate, clamped_gate_on(gate: &mut [f32], up: &[f32], limit: f32) {
        assert!(gate.len() == up.len(), "gate and up differ in length: {} and {}", gate.len(), up.len());
        for (gate, up) in gate.iter_mut().zip(up) {
            let g = if *gate > limit { limit } else { *gate };
            let u = if *up > limit { limit } else { *up };
            let u = if u < -limit { -limit } else { u };
            *gate = times_sigmoid(g, 1.702 * g) * (u + 1.0);
        }
    }
}

per_isa! {
    /// Computes `cap * tanh(x / cap)` for each of `x` `[n]`, so that logits cannot exceed `cap` (Gemma 2).
    pub fn soft_cap, soft_cap_on(x: &mut [f32], cap: f32) {
        for x in x {
            *x = cap * (1.0 - 2.0 / (1.0 + exp(2.0 * (*x / cap))));
        }
    }
}

per_isa! {
    /// Computes the logistic sigmoid of each of `x` `[n]`.
    pub fn sigmoid, sigmoid_on(x: &mut [f32]) {
        for x in x {
            *x = 1.0 / (1.0 + exp(-*x));
        }
    }
}

/// `sqrt(2 / π)`.
pub(super) const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// Returns `x` times the logistic sigmoid of `t`.
#[inline(always)]
fn times_sigmoid(x: f32, t: f32) -> f32 {
    x / (1.0 + exp(-t))
}

/// The polynomial of `exp(x²) erfc(x) / t` in `t = 1 / (1 + P x)`, highest power first. It is minimax in the relative
/// error for `x` in 0..10, which is 7e-8 (fitted by reweighted least squares, then rounded).
const ERFC: [f32; 9] = [
    0.041_253_027,
    -0.140_319_17,
    0.083_987_15,
    0.087_964_505,
    0.079_756_38,
    0.193_393_26,
    0.201_887_58,
    0.226_443_11,
    0.225_634_23,
];
/// The parameter of `t` in [`ERFC`], chosen for the fit.
const P: f32 = 0.4;

/// Returns `1 - erf(x)` for `x >= 0`.
///
/// Source: the form of formula 7.1.26 in Abramowitz and Stegun, Handbook of Mathematical Functions, with more terms.
#[inline(always)]
pub(super) fn erfc(x: f32) -> f32 {
    let t = 1.0 / (1.0 + P * x);
    let mut sum = 0.0;
    for coefficient in ERFC {
        sum = sum * t + coefficient;
    }
    sum * t * exp(-(x * x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::math::tests::{assert_close, bits, noise};

    fn inputs() -> Vec<f32> {
        noise(3001, 1).iter().map(|x| 12.0 * x).collect()
    }

    #[test]
    fn silu_equals_the_definition() {
        let (x, up) = (inputs(), noise(3001, 2));
        let mut out = x.clone();
        silu_gate(&mut out, &up);
        let exact = |i: usize| {
            let x = f64::from(x[i]);
            x / (1.0 + (-x).exp()) * f64::from(up[i])
        };
        assert_close(&out, exact, 4e-7);
    }

    #[test]
    fn gelu_by_tanh_equals_the_definition() {
        let x = inputs();
        let mut out = x.clone();
        gelu_tanh(&mut out);
        let exact = |i: usize| {
            let x = f64::from(x[i]);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        };
        for (i, out) in out.iter().enumerate() {
            assert!((f64::from(*out) - exact(i)).abs() <= 4e-7 * exact(i).abs().max(0.5), "{} {out}", x[i]);
        }
    }

    /// The table has values of `x / 2 * (1 + erf(x / sqrt(2)))` to 12 digits.
    #[test]
    fn gelu_by_erf_equals_the_definition() {
        let table = [
            (-8.0, -4.976768459417e-15),
            (-5.0, -1.433257859396e-06),
            (-3.25, -1.875331387770e-03),
            (-2.0, -4.550026389636e-02),
            (-1.0, -1.586552539315e-01),
            (-0.5, -1.542687693630e-01),
            (-0.125, -5.628272189624e-02),
            (-0.001, -4.996010577861e-04),
            (0.001, 5.003989422139e-04),
            (0.25, 1.496765814207e-01),
            (0.75, 5.800294857173e-01),
            (1.5, 1.399789198097e+00),
            (2.5, 2.484475836686e+00),
            (4.0, 3.999873315033e+00),
            (6.0, 5.999999994080e+00),
        ];
        let mut out = table.map(|(x, _)| x);
        gelu_erf(&mut out);
        assert_close(&out, |i| table[i].1, 2e-6);
    }

    #[test]
    fn gates_and_caps_equal_their_definitions() {
        let (x, up) = (inputs(), noise(3001, 2));
        let [mut gelu, mut clamped, mut capped, mut sigmoids, mut squares, mut gates] =
            [(); 6].map(|()| x.clone());
        let [mut silus, mut gated, mut by_sigmoid, mut by_erf, mut erf] = [(); 5].map(|()| x.clone());
        gelu_erf(&mut erf);
        gelu_erf_gate(&mut by_erf, &up);
        silu(&mut silus);
        silu_gate(&mut gated, &up);
        sigmoid_gate(&mut by_sigmoid, &up);
        gelu_gate(&mut gelu, &up);
        clamped_gate(&mut clamped, &up, 0.75);
        soft_cap(&mut capped, 5.0);
        sigmoid(&mut sigmoids);
        relu_squared(&mut squares);
        relu_squared_gate(&mut gates, &up);
        let mut plain = x.clone();
        gelu_tanh(&mut plain);
        for (i, &x) in x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>().iter().enumerate() {
            assert_eq!([gelu[i], gated[i]], [plain[i] * up[i], silus[i] * up[i]]);
            assert!((by_erf[i] - erf[i] * up[i]).abs() <= 2e-6 * x.abs() as f32, "{x}");
            assert_eq!(squares[i], (x.max(0.0) as f32).powi(2));
            assert_eq!(gates[i], squares[i] * up[i]);
            let (g, u) = (x.min(0.75), f64::from(up[i]).clamp(-0.75, 0.75));
            let exact = [
                g / (1.0 + (-1.702 * g).exp()) * (u + 1.0),
                5.0 * (x / 5.0).tanh(),
                1.0 / (1.0 + (-x).exp()),
                f64::from(up[i]) / (1.0 + (-x).exp()),
            ];
            for (out, exact) in [clamped[i], capped[i], sigmoids[i], by_sigmoid[i]].into_iter().zip(exact) {
                assert!((f64::from(out) - exact).abs() <= 2e-6, "{x}: {out} {exact}");
            }
        }
    }

    #[test]
    fn ends_of_the_range() {
        let ends = [f32::NEG_INFINITY, -1e30, 0.0, 1e30, f32::INFINITY];
        let mut out = ends;
        silu_gate(&mut out, &[1.0; 5]);
        assert!(out[0].is_nan() && out[1..] == [0.0, 0.0, 1e30, f32::INFINITY], "{out:?}");
        for gelu in [gelu_tanh, gelu_erf] {
            let mut out = [-1e10, 0.0, 1e10];
            gelu(&mut out);
            assert_eq!(out, [0.0, 0.0, 1e10]);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (x, up) = (inputs(), noise(3001, 2));
        let run = |isa| {
            let mut out = [(); 12].map(|()| x.clone());
            silu_gate_on(isa, &mut out[0], &up);
            gelu_tanh_on(isa, &mut out[1]);
            gelu_erf_on(isa, &mut out[2]);
            gelu_gate_on(isa, &mut out[3], &up);
            clamped_gate_on(isa, &mut out[4], &up, 0.5);
            soft_cap_on(isa, &mut out[5], 3.0);
            sigmoid_on(isa, &mut out[6]);
            silu_on(isa, &mut out[7]);
            sigmoid_gate_on(isa, &mut out[8], &up);
            relu_squared_on(isa, &mut out[9]);
            relu_squared_gate_on(isa, &mut out[10], &up);
            gelu_erf_gate_on(isa, &mut out[11], &up);
            out.map(|out| bits(&out))
        };
        for isa in Isa::available() {
            assert!(run(isa) == run(Isa::available()[0]), "{isa:?}");
        }
    }
}
