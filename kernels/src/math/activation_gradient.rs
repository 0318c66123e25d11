//! The gradients of the activation functions, in place: the gradient of the output becomes the gradient of the input.

use super::activation::{SQRT_2_OVER_PI, erfc};
use super::exp::exp;
use crate::isa::per_isa;

per_isa! {
    /// Computes the gradient of [`silu_gate`](super::silu_gate) at `gate` and `up`, all `[n]`. `d_gate` comes as the
    /// gradient of the output and becomes the gradient of the gate; `d_up` becomes the gradient of up.
    pub fn silu_gate_gradient, silu_gate_gradient_on(d_gate: &mut [f32], d_up: &mut [f32], gate: &[f32], up: &[f32]) {
        through_gate(d_gate, d_up, gate, up, |gate, up| {
            let (value, slope) = times_sigmoid(gate, gate, 1.0);
            (slope * up, value)
        });
    }
}

per_isa! {
    /// Computes the gradient of [`sigmoid_gate`](super::sigmoid_gate) at `gate` and `up`, all `[n]`. `d_gate` comes as the
    /// gradient of the output and becomes the gradient of the gate; `d_up` becomes the gradient of up.
    pub fn sigmoid_gate_gradient, sigmoid_gate_gradient_on(
        d_gate: &mut [f32],
        d_up: &mut [f32],
        gate: &[f32],
        up: &[f32],
    ) {
        through_gate(d_gate, d_up, gate, up, |gate, up| {
            let sigmoid = 1.0 / (1.0 + exp(-gate));
            (sigmoid * (1.0 - sigmoid) * up, sigmoid)
        });
    }
}

per_isa! {
    /// Computes the gradient of [`silu`](super::silu) at `x`, both `[n]`.
    pub fn silu_gradient, silu_gradient_on(gradient: &mut [f32], x: &[f32]) {
        scale(gradient, x, |x| times_sigmoid(x, x, 1.0).1);
    }
}

per_isa! {
    /// Computes the gradient of [`gelu_gate`](super::gelu_gate) at `gate` and `up`, all `[n]`. `d_gate` comes as the
    /// gradient of the output and becomes the gradient of the gate; `d_up` becomes the gradient of up.
    pub fn gelu_gate_gradient, gelu_gate_gradient_on(d_gate: &mut [f32], d_up: &mut [f32], gate: &[f32], up: &[f32]) {
        through_gate(d_gate, d_up, gate, up, |gate, up| {
            let (value, slope) = by_tanh(gate);
            (slope * up, value)
        });
    }
}

per_isa! {
    /// Computes the gradient of [`gelu_erf_gate`](super::gelu_erf_gate) at `gate` and `up`, all `[n]`. `d_gate` comes as
    /// the gradient of the output and becomes the gradient of the gate; `d_up` becomes the gradient of up.
    pub fn gelu_erf_gate_gradient, gelu_erf_gate_gradient_on(
        d_gate: &mut [f32],
        d_up: &mut [f32],
        gate: &[f32],
        up: &[f32],
    ) {
        through_gate(d_gate, d_up, gate, up, |gate, up| {
            let (value, slope) = by_erf(gate);
            (slope * up, value)
        });
    }
}

per_isa! {
    /// Computes the gradient of [`clamped_gate`](super::clamped_gate) at `gate` and `up`, all `[n]`; it is 0 past the
    /// limits. `d_gate` comes as the gradient of the output and becomes the gradient of the gate; `d_up` becomes the
    /// gradient of up.
    pub fn clamped_gate_gradient, clamped_gate_gradient_on(
        d_gate: &mut [f32],
        d_up: &mut [f32],
        gate: &[f32],
        up: &[f32],
        limit: f32,
    ) {
        through_gate(d_gate, d_up, gate, up, |gate, up| {
            let g = if gate > limit { limit } else { gate };
            let u = if up > limit { limit } else { up };
            let u = if u < -limit { -limit } else { u };
            let (value, slope) = times_sigmoid(g, 1.702 * g, 1.702);
            (if gate > limit { 0.0 } else { slope * (u + 1.0) }, if up.abs() > limit { 0.0 } else { value })
        });
    }
}

per_isa! {
    /// Computes the gradient of [`gelu_tanh`](super::gelu_tanh) at `x`, both `[n]`.
    pub fn gelu_tanh_gradient, gelu_tanh_gradient_on(gradient: &mut [f32], x: &[f32]) {
        scale(gradient, x, |x| by_tanh(x).1);
    }
}

per_isa! {
    /// Computes the gradient of [`gelu_erf`](super::gelu_erf) at `x`, both `[n]`: it is multiplied by
    /// `Φ(x) + x φ(x)`, where Φ and φ are the distribution and the density of the normal distribution.
    pub fn gelu_erf_gradient, gelu_erf_gradient_on(gradient: &mut [f32], x: &[f32]) {
        scale(gradient, x, |x| by_erf(x).1);
    }
}

per_isa! {
    /// Computes the gradient of [`relu_squared`](super::relu_squared) at `x`, both `[n]`.
    pub fn relu_squared_gradient, relu_squared_gradient_on(gradient: &mut [f32], x: &[f32]) {
        scale(gradient, x, |x| if x > 0.0 { 2.0 * x } else { 0.0 });
    }
}

per_isa! {
    /// Computes the gradient of [`relu_squared_gate`](super::relu_squared_gate) at `gate` and `up`, all `[n]`. `d_gate`
    /// comes as the gradient of the output and becomes the gradient of the gate; `d_up` becomes the gradient of up.
    pub fn relu_squared_gate_gradient, relu_squared_gate_gradient_on(
        d_gate: &mut [f32],
        d_up: &mut [f32],
        gate: &[f32],
        up: &[f32],
    ) {
        through_gate(d_gate, d_up, gate, up, |gate, up| {
            let above = if gate > 0.0 { gate } else { 0.0 };
            (2.0 * above * up, above * above)
        });
    }
}

per_isa! {
    /// Computes the gradient of [`soft_cap`](super::soft_cap), given its result `capped`, both `[n]`: it is
    /// multiplied by `1 - (capped / cap)²`.
    pub fn soft_cap_gradient, soft_cap_gradient_on(gradient: &mut [f32], capped: &[f32], cap: f32) {
        scale(gradient, capped, |capped| 1.0 - (capped / cap) * (capped / cap));
    }
}

per_isa! {
    /// Computes the gradient of [`sigmoid`](super::sigmoid), given its result `p`, both `[n]`: it is multiplied by
    /// `p (1 - p)`.
    pub fn sigmoid_gradient, sigmoid_gradient_on(gradient: &mut [f32], p: &[f32]) {
        scale(gradient, p, |p| p * (1.0 - p));
    }
}

/// `2 / sqrt(2 π)`, twice the largest density of the normal distribution.
const FRAC_2_SQRT_TAU: f32 = 0.797_884_6;

#[inline(always)]
fn scale(gradient: &mut [f32], x: &[f32], slope: impl Fn(f32) -> f32) {
    assert!(gradient.len() == x.len(), "{} gradients of {} values", gradient.len(), x.len());
    for (gradient, x) in gradient.iter_mut().zip(x) {
        *gradient *= slope(*x);
    }
}

/// Computes the gradient of a gate; `slopes` returns the derivatives of the output by gate and by up.
#[inline(always)]
fn through_gate(
    d_gate: &mut [f32],
    d_up: &mut [f32],
    gate: &[f32],
    up: &[f32],
    slopes: impl Fn(f32, f32) -> (f32, f32),
) {
    let n = gate.len();
    assert!(up.len() == n && d_gate.len() == n && d_up.len() == n, "gate, up and gradients differ in length");
    for (((d_gate, d_up), gate), up) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up) {
        let (by_gate, by_up) = slopes(*gate, *up);
        *d_up = *d_gate * by_up;
        *d_gate *= by_gate;
    }
}

/// Returns `x σ(t)` and its derivative by x, where `slope` is the derivative of t by x.
#[inline(always)]
fn times_sigmoid(x: f32, t: f32, slope: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-t));
    (x * sigmoid, sigmoid + x * (sigmoid * (1.0 - sigmoid)) * slope)
}

/// Returns GELU by its definition, and its derivative.
#[inline(always)]
fn by_erf(x: f32) -> (f32, f32) {
    let tail = 0.5 * erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    (x * below, below + x * (0.5 * FRAC_2_SQRT_TAU * exp(-0.5 * x * x)))
}

/// Returns GELU by its tanh formula, and its derivative.
#[inline(always)]
fn by_tanh(x: f32) -> (f32, f32) {
    let t = 2.0 * SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
    times_sigmoid(x, t, 2.0 * SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x))
}
