//! Sums of buffers, element by element.

/// Computes `out += x`, both `[n]`.
pub fn add(out: &mut [f32], x: &[f32]) {
    assert!(out.len() == x.len(), "summands differ in length: {} and {}", out.len(), x.len());
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// Computes `out += scale * x`, both `[n]`.
pub fn add_scaled(out: &mut [f32], x: &[f32], scale: f32) {
    assert!(out.len() == x.len(), "summands differ in length: {} and {}", out.len(), x.len());
    for (out, x) in out.iter_mut().zip(x) {
        *out += scale * x;
    }
}

/// Adds `bias` `[n]` to every row of `rows` `[rows][n]`.
#[inline(always)]
pub fn add_bias(rows: &mut [f32], bias: &[f32]) {
    let n = bias.len().max(1);
    assert!(rows.len().is_multiple_of(n), "{} elements are no whole number of rows of {n}", rows.len());
    for row in rows.chunks_exact_mut(n) {
        for (out, bias) in row.iter_mut().zip(bias) {
            *out += bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let mut out = [1.0, 2.0, 3.0, 4.0];
        add(&mut out, &[10.0, 20.0, 30.0, 40.0]);
        assert_eq!(out, [11.0, 22.0, 33.0, 44.0]);
        let mut scaled = out;
        add_scaled(&mut scaled, &[1.0, 2.0, 3.0, 4.0], -0.5);
        assert_eq!(scaled, [10.5, 21.0, 31.5, 42.0]);
        add_bias(&mut out, &[0.5, -0.5]);
        assert_eq!(out, [11.5, 21.5, 33.5, 43.5]);
    }
}
