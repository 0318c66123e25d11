//! The causal convolution over the tokens of a text, channel by channel.

use crate::isa::per_isa;

per_isa! {
    /// Computes `out[t] = bias + Σ taps[k] * x[t + k - (kernel - 1)]` for every channel: `x` and `out` are `[tokens][n]`,
    /// `taps` is `[kernel][n]`, `bias` is `[n]`, and `before`, `[kernel - 1][n]`, are the rows before the first one.
    pub fn causal_conv, causal_conv_on(out: &mut [f32], x: &[f32], before: &[f32], taps: &[f32], bias: &[f32]) {
        let n = bias.len().max(1);
        check_shapes(out.len(), x.len(), taps.len(), n);
        assert!(before.len() + n == taps.len(), "the rows before the first are not one less than the taps");
        let earlier = before.len() / n;
        for (t, out) in out.chunks_exact_mut(n).enumerate() {
            out.copy_from_slice(bias);
            for (k, taps) in taps.chunks_exact(n).enumerate() {
                let from = match (t + k).checked_sub(earlier) {
                    Some(row) => &x[row * n..][..n],
                    None => &before[(t + k) * n..][..n],
                };
                for ((out, x), tap) in out.iter_mut().zip(from).zip(taps) {
                    *out += tap * x;
                }
            }
        }
    }
}

per_isa! {
    /// Computes the gradient of [`causal_conv`] for a text from its beginning: `d_x` becomes the gradient of the input, given
    /// that of the output, both `[tokens][n]`; `taps` is `[kernel][n]`.
    pub fn causal_conv_gradient, causal_conv_gradient_on(d_x: &mut [f32], d_out: &[f32], taps: &[f32], n: usize) {
        check_shapes(d_x.len(), d_out.len(), taps.len(), n);
        let tokens = d_out.len() / n;
        let kernel = taps.len() / n;
        for (t, d_x) in d_x.chunks_exact_mut(n).enumerate() {
            d_x.fill(0.0);
            for (k, taps) in taps.chunks_exact(n).enumerate() {
                let row = t + kernel - 1 - k;
                if row >= tokens {
                    continue;
                }
                for ((d_x, d), tap) in d_x.iter_mut().zip(&d_out[row * n..][..n]).zip(taps) {
                    *d_x += tap * d;
                }
            }
        }
    }
}

/// Fills `products`, `[tokens][n][kernel]`, with what each token adds to the gradient of the weight `[n][kernel]` of
/// [`causal_conv`], for a text from its beginning with the input `x` and the gradient `d_out` of the output, both
/// `[tokens][n]`.
pub fn causal_conv_products(products: &mut [f32], x: &[f32], d_out: &[f32], n: usize) {
    let tokens = (x.len() / n).max(1);
    let kernel = products.len() / (tokens * n);
    check_shapes(x.len(), d_out.len(), kernel * n, n);
    for (t, (products, d)) in products.chunks_exact_mut(n * kernel).zip(d_out.chunks_exact(n)).enumerate() {
        for (channel, (products, d)) in products.chunks_exact_mut(kernel).zip(d).enumerate() {
            for (k, product) in products.iter_mut().enumerate() {
                let row = (t + k + 1).checked_sub(kernel);
                *product = row.map_or(0.0, |row| d * x[row * n + channel]);
            }
        }
    }
}

#[inline(always)]
fn check_shapes(out: usize, x: usize, taps: usize, n: usize) {
    assert!(out == x && x.is_multiple_of(n), "rows of input and output differ: {x} and {out} elements");
    assert!(taps >= n && taps.is_multiple_of(n), "{taps} taps are no whole number of rows of {n}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::math::tests::{assert_close, bits, noise};

    const N: usize = 37;
    const KERNEL: usize = 4;

    #[test]
    fn equals_the_definition_however_a_text_is_cut() {
        let (x, taps, bias) = (noise(9 * N, 1), noise(KERNEL * N, 2), noise(N, 3));
        let mut out = vec![f32::NAN; x.len()];
        causal_conv(&mut out, &x, &vec![0.0; (KERNEL - 1) * N], &taps, &bias);
        let exact = |i: usize| {
            let (t, channel) = (i / N, i % N);
            let term = |k: usize| {
                let row = (t + k).checked_sub(KERNEL - 1)?;
                Some(f64::from(taps[k * N + channel]) * f64::from(x[row * N + channel]))
            };
            f64::from(bias[channel]) + (0..KERNEL).filter_map(term).sum::<f64>()
        };
        assert_close(&out, exact, 1e-5);
        for cut in [4, 6] {
            let (first, second) = x.split_at(cut * N);
            let mut rest = vec![f32::NAN; second.len()];
            causal_conv(&mut rest, second, &first[(cut + 1 - KERNEL) * N..], &taps, &bias);
            assert_eq!(rest, out[cut * N..]);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (x, taps, bias) = (noise(9 * N, 4), noise(KERNEL * N, 5), noise(N, 6));
        let run = |isa| {
            let mut out = vec![0.0; x.len()];
            causal_conv_on(isa, &mut out, &x, &bias.repeat(KERNEL - 1), &taps, &bias);
            bits(&out)
        };
        for isa in Isa::available() {
            assert!(run(isa) == run(Isa::available()[0]), "{isa:?}");
        }
    }
}
