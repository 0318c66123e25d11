//! The activation xIELU, whose numbers are learned for each layer.

use super::exp::exp;
use crate::isa::per_isa;

/// The numbers of the function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xielu {
    /// Factor of the square of positive values.
    positive: f32,
    /// Factor of what bends negative values.
    negative: f32,
    /// Slope at 0.
    beta: f32,
    /// Largest argument of the exponential, a number just below 0.
    eps: f32,
}

impl Xielu {
    /// Returns the function of the learned numbers: the factors are `softplus(alpha_p)` and `beta + softplus(alpha_n)`.
    ///
    /// Source: Huang and Schlag, Deriving Activation Functions Using Integration, 2024.
    pub fn new([alpha_p, alpha_n, beta, eps]: [f32; 4]) -> Self {
        let softplus = |x: f32| f64::from(x).exp().ln_1p();
        let negative = (f64::from(beta) + softplus(alpha_n)) as f32;
        Self { positive: softplus(alpha_p) as f32, negative, beta, eps }
    }
}

per_isa! {
    /// Computes, for each of `x` `[n]`, `positive x² + beta x` where x is positive, and
    /// `negative (exp(min(x, eps)) - 1 - x) + beta x` elsewhere.
    pub fn xielu, xielu_on(x: &mut [f32], by: Xielu) {
        for x in x {
            let below = if *x < by.eps { *x } else { by.eps };
            let bent = by.negative * (exp(below) - 1.0 - *x);
            let squared = by.positive * *x * *x;
            *x = by.beta * *x + if *x > 0.0 { squared } else { bent };
        }
    }
}

per_isa! {
    /// Computes the gradient of [`xielu`] at `x`, both `[n]`.
    pub fn xielu_gradient, xielu_gradient_on(gradient: &mut [f32], x: &[f32], by: Xielu) {
        assert!(gradient.len() == x.len(), "{} gradients of {} values", gradient.len(), x.len());
        for (gradient, &x) in gradient.iter_mut().zip(x) {
            let slope = if x < by.eps { exp(x) } else { 0.0 };
            let bent = by.negative * (slope - 1.0);
            *gradient *= by.beta + if x > 0.0 { 2.0 * by.positive * x } else { bent };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::math::tests::{bits, noise};

    #[test]
    fn equals_the_definition_on_every_instruction_set() {
        let x: Vec<f32> = noise(3001, 1).iter().map(|x| 8.0 * x).collect();
        let by = Xielu::new([0.2, -1.0, 0.5, -1e-6]);
        let run = |isa| {
            let mut out = x.clone();
            xielu_on(isa, &mut out, by);
            out
        };
        let out = run(Isa::available()[0]);
        let (positive, negative) = (0.2f64.exp().ln_1p(), 0.5 + (-1f64).exp().ln_1p());
        for (&x, out) in x.iter().zip(&out) {
            let x = f64::from(x);
            let exact = match x > 0.0 {
                true => positive * x * x + 0.5 * x,
                false => negative * (x.min(-1e-6).exp_m1() - x) + 0.5 * x,
            };
            assert!((f64::from(*out) - exact).abs() <= 1e-6 * exact.abs().max(1.0), "{x}: {out} {exact}");
        }
        for isa in Isa::available() {
            assert!(bits(&run(isa)) == bits(&out), "{isa:?}");
        }
    }
}
