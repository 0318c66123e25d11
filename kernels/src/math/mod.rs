//! The operations of the forward pass between its matrix products: norms, rotary positions, attention, activations.
//!
//! The functions run on one thread, on buffers of whole rows, and give the same bits on every instruction set: sums
//! run in 16 lanes that are added up in a fixed order, and products are those of [`linalg`](crate::linalg). The
//! vector-Jacobian product of a function is called `..._gradient`; it turns the gradient of the output into the
//! gradient of the input.

mod activation;
mod activation_gradient;
mod attention;
mod attention_gradient;
mod conv;
mod elementwise;
mod exp;
#[cfg(test)]
mod gradient_tests;
mod norm;
mod reduce;
mod rope;
mod scan;
mod scan_gradient;
mod softmax;
mod xielu;

pub use activation::{
    clamped_gate, gelu_erf, gelu_erf_gate, gelu_gate, gelu_tanh, relu_squared, relu_squared_gate, sigmoid,
    sigmoid_gate, silu, silu_gate, soft_cap,
};
pub use activation_gradient::{
    clamped_gate_gradient, gelu_erf_gate_gradient, gelu_erf_gradient, gelu_gate_gradient, gelu_tanh_gradient,
    relu_squared_gate_gradient, relu_squared_gradient, sigmoid_gate_gradient, sigmoid_gradient,
    silu_gate_gradient, silu_gradient, soft_cap_gradient,
};
pub use attention::{Heads, Scratch, Seen};
pub use attention_gradient::{GradientScratch, SeenGradients};
pub use conv::{causal_conv, causal_conv_gradient, causal_conv_products};
pub use elementwise::{add, add_bias, add_scaled};
pub use norm::{layer_norm, layer_norm_gradient, rms_norm, rms_norm_gradient};
pub use rope::{Pairs, Rope, Yarn, frequencies};
pub use scan::{Scan, ScanInput};
pub use scan_gradient::ScanGradients;
pub use softmax::{log_sum_exp, softmax, softmax_gradient, softmax_with};
pub use xielu::{Xielu, xielu, xielu_gradient};

#[cfg(test)]
mod tests {
    /// Returns `n` numbers in -1..1, which differ between seeds.
    pub(super) fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    pub(super) fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    /// Compares with exact values. The error may be `tolerance`, relative to values above 1e-3 and to 1e-3 for
    /// smaller ones.
    pub(super) fn assert_close(x: &[f32], exact: impl Fn(usize) -> f64, tolerance: f64) {
        for (i, &x) in x.iter().enumerate() {
            let (error, exact) = ((f64::from(x) - exact(i)).abs(), exact(i));
            assert!(error <= tolerance * exact.abs().max(1e-3), "[{i}]: {x} is not {exact}");
        }
    }
}
