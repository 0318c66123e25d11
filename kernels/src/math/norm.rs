//! The normalisations of rows: RMS norm and layer norm.

use super::reduce::{sum, sum_of_pairs};
use crate::isa::per_isa;

per_isa! {
    /// Computes `out = x / sqrt(mean(x²) + eps) * weight` for every row: `x` and `out` are `[rows][n]`, `weight` is
    /// `[n]`. The mean is summed in f64.
    ///
    /// Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.
    pub fn rms_norm, rms_norm_on(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
        let n = weight.len().max(1);
        assert!(out.len() == x.len() && x.len().is_multiple_of(n), "rows of x, out and weight differ");
        for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let mean_square = (sum(x, |x| x * x) / n as f64) as f32;
            let scale = 1.0 / (mean_square + eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        }
    }
}

per_isa! {
    /// Computes `out = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias` for every row: `x` and `out` are
    /// `[rows][n]`, `weight` and `bias` are `[n]`. Mean and variance are summed in f64.
    ///
    /// Source: Ba, Kiros and Hinton, Layer Normalization, 2016.
    pub fn layer_norm, layer_norm_on(out: &mut [f32], x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) {
        let n = weight.len().max(1);
        assert!(out.len() == x.len() && x.len().is_multiple_of(n), "rows of x, out and weight differ");
        for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let mean = (sum(x, |x| x) / n as f64) as f32;
            let variance = (sum(x, |x| (x - mean) * (x - mean)) / n as f64) as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = (x - mean) * scale * weight;
            }
        }
        if let Some(bias) = bias {
            super::elementwise::add_bias(out, bias);
        }
    }
}

per_isa! {
    /// Computes the gradient of [`rms_norm`]: `gradient` `[rows][n]` comes as that of the output and becomes that of
    /// the input.
    ///
    /// The formula is `s v - s³ x mean(x v)` with `s = 1 / sqrt(mean(x²) + eps)` and `v = weight * gradient`.
    pub fn rms_norm_gradient, rms_norm_gradient_on(gradient: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
        let n = weight.len().max(1);
        assert!(gradient.len() == x.len() && x.len().is_multiple_of(n), "rows of x, gradient and weight differ");
        for (gradient, x) in gradient.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let mean_square = (sum(x, |x| x * x) / n as f64) as f32;
            let scale = 1.0 / (mean_square + eps).sqrt();
            weigh(gradient, weight);
            // In this order nothing overflows before the result does.
            let along = scale * (scale * (sum_of_pairs(x, gradient, |x, v| x * v) / n as f64) as f32);
            for (gradient, x) in gradient.iter_mut().zip(x) {
                *gradient = scale * (*gradient - x * along);
            }
        }
    }
}

per_isa! {
    /// Computes the gradient of [`layer_norm`]: `gradient` `[rows][n]` comes as that of the output and becomes that
    /// of the input.
    ///
    /// The formula is `s (v - mean(v) - z mean(z v))` with z the normalised x, s its scale and `v = weight * gradient`.
    pub fn layer_norm_gradient, layer_norm_gradient_on(gradient: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
        let n = weight.len().max(1);
        assert!(gradient.len() == x.len() && x.len().is_multiple_of(n), "rows of x, gradient and weight differ");
        for (gradient, x) in gradient.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let mean = (sum(x, |x| x) / n as f64) as f32;
            let variance = (sum(x, |x| (x - mean) * (x - mean)) / n as f64) as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            weigh(gradient, weight);
            let level = (sum(gradient, |v| v) / n as f64) as f32;
            let along = (sum_of_pairs(x, gradient, |x, v| (x - mean) * scale * v) / n as f64) as f32;
            for (gradient, x) in gradient.iter_mut().zip(x) {
                *gradient = scale * (*gradient - level - (x - mean) * scale * along);
            }
        }
    }
}

#[inline(always)]
fn weigh(row: &mut [f32], weight: &[f32]) {
    for (v, weight) in row.iter_mut().zip(weight) {
        *v *= weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::math::tests::{assert_close, bits, noise};

    const EPS: f32 = 1e-5;

    #[test]
    fn rms_norm_equals_the_definition() {
        let (x, weight) = (noise(3 * 100, 1), noise(100, 2));
        let mut out = vec![f32::NAN; 300];
        rms_norm(&mut out, &x, &weight, EPS);
        for (out, x) in out.chunks(100).zip(x.chunks(100)) {
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 100.0;
            let exact = |i: usize| f64::from(x[i]) / (mean + f64::from(EPS)).sqrt() * f64::from(weight[i]);
            assert_close(out, exact, 3e-7);
        }
    }

    #[test]
    fn layer_norm_equals_the_definition() {
        let (x, weight, bias) = (noise(3 * 100, 1), noise(100, 2), noise(100, 3));
        let mut out = vec![f32::NAN; 300];
        layer_norm(&mut out, &x, &weight, Some(&bias), EPS);
        for (out, x) in out.chunks(100).zip(x.chunks(100)) {
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / 100.0;
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 100.0;
            let scale = 1.0 / (variance + f64::from(EPS)).sqrt();
            let exact =
                |i: usize| (f64::from(x[i]) - mean) * scale * f64::from(weight[i]) + f64::from(bias[i]);
            assert!(out.iter().enumerate().all(|(i, out)| (f64::from(*out) - exact(i)).abs() < 1e-6));
        }
        let mut plain = vec![f32::NAN; 300];
        layer_norm(&mut plain, &x, &weight, None, EPS);
        assert!(plain.iter().zip(&out).zip(bias.iter().cycle()).all(|((p, o), b)| p + b == *o));
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (x, weight, bias) = (noise(3 * 77, 4), noise(77, 5), noise(77, 6));
        let run = |isa| {
            let (mut rms, mut layer) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            rms_norm_on(isa, &mut rms, &x, &weight, EPS);
            layer_norm_on(isa, &mut layer, &x, &weight, Some(&bias), EPS);
            (bits(&rms), bits(&layer))
        };
        for isa in Isa::available() {
            assert!(run(isa) == run(Isa::available()[0]), "{isa:?}");
        }
    }
}
