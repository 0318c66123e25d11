//! Sums of gradients of weights over a batch.

use std::collections::BTreeMap;

use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

use super::parameters::{Parameter, Parameters};
use crate::model::{GradientObserver, ObserveError, ParameterKind, WeightObserver};

/// Number of elements of a vector that one task sums.
const STEP: usize = 64;

/// Sums of the gradients of the parameters, by name.
///
/// Every element is one chain of sums over the tokens in their order, so that it does not matter how the tokens are divided.
#[derive(Debug)]
pub(super) struct WeightGradients {
    sums: BTreeMap<String, Vec<f32>>,
    /// Sums of gradients of norms and biases, which are few and are summed in f64.
    vectors: BTreeMap<String, Vec<f64>>,
}

impl WeightGradients {
    /// Creates gradients of zero for `parameters`.
    pub(super) fn zeros(parameters: &Parameters) -> Self {
        let (mut sums, mut vectors) = (BTreeMap::new(), BTreeMap::new());
        for name in parameters.names() {
            parameters.with(name, |Parameter { kind, values, .. }| match kind {
                ParameterKind::Norm | ParameterKind::Bias | ParameterKind::Recurrent => {
                    drop(vectors.insert(name.to_owned(), vec![0.0; values.len()]))
                }
                ParameterKind::Linear | ParameterKind::Table => {
                    drop(sums.insert(name.to_owned(), vec![0.0; values.len()]))
                }
            });
        }
        Self { sums, vectors }
    }

    /// Sets all sums to zero.
    pub(super) fn clear(&mut self) {
        self.sums.values_mut().for_each(|sum| sum.fill(0.0));
        self.vectors.values_mut().for_each(|sum| sum.fill(0.0));
    }

    /// Returns the gradient of `name` as a mean over `tokens` tokens.
    pub(super) fn mean(&self, name: &str, tokens: usize) -> Vec<f32> {
        let tokens = tokens.max(1) as f64;
        match (self.sums.get(name), self.vectors.get(name)) {
            (Some(sums), _) => sums.par_iter().map(|&sum| sum / tokens as f32).collect(),
            (_, Some(sums)) => sums.iter().map(|sum| (sum / tokens) as f32).collect(),
            (None, None) => Vec::new(),
        }
    }
}

impl WeightObserver for WeightGradients {
    fn product(&mut self, tensor: &str, first: usize, gradient: &[f32], x: &[f32], columns: usize) {
        let rows = x.len() / columns;
        let (Some(sums), true) = (self.sums.get_mut(tensor), rows > 0) else { return };
        let outputs = gradient.len() / rows;
        let panel = panel(outputs);
        let sums = &mut sums[first * columns..(first + outputs) * columns];
        sums.par_chunks_mut(panel * columns).enumerate().for_each(|(i, sums)| {
            let (from, count) = (i * panel, sums.len() / columns);
            let left = View::new(&gradient[from..], rows, count, outputs, 1).transposed();
            gemm(ViewMut::row_major(sums, columns), left, View::row_major(x, columns), 1.0, 1.0);
        });
    }

    fn columns(&mut self, tensor: &str, first: usize, values: &[f32], width: usize) {
        let Some(sums) = self.vectors.get_mut(tensor) else { return };
        let sums = &mut sums[first..first + width];
        sums.par_chunks_mut(STEP).enumerate().for_each(|(i, sums)| {
            for row in values.chunks_exact(width) {
                sums.iter_mut().zip(&row[i * STEP..]).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        });
    }

    fn rows(&mut self, tensor: &str, numbers: &[u32], gradient: &[f32], columns: usize) {
        let Some(sums) = self.sums.get_mut(tensor) else { return };
        for (&number, gradient) in numbers.iter().zip(gradient.chunks_exact(columns)) {
            let sum = &mut sums[number as usize * columns..][..columns];
            sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient);
        }
    }
}

/// Returns the number of rows that one task sums. The choice changes no bit of the result.
fn panel(outputs: usize) -> usize {
    (outputs / 8).next_multiple_of(32).clamp(32, 512)
}

impl GradientObserver for WeightGradients {
    fn output_gradient(&mut self, _: &str, _: &[f32], _: usize) -> Result<(), ObserveError> {
        Ok(())
    }

    fn expert_output_gradient(
        &mut self,
        _: &str,
        _: usize,
        _: usize,
        _: &[f32],
        _: usize,
    ) -> Result<(), ObserveError> {
        Ok(())
    }

    fn output_variances(&mut self, _: &[f32], _: usize) -> Result<(), ObserveError> {
        Ok(())
    }

    fn embedding_gradient(&mut self, _: &[f32], _: usize) -> Result<(), ObserveError> {
        Ok(())
    }

    fn weights(&mut self) -> Option<&mut dyn WeightObserver> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    fn zeros(matrix: usize, vector: usize) -> WeightGradients {
        WeightGradients {
            sums: [("m".to_owned(), vec![0.0; matrix])].into(),
            vectors: [("v".to_owned(), vec![0.0; vector])].into(),
        }
    }

    #[test]
    fn sums_do_not_depend_on_how_the_tokens_are_cut() {
        let (tokens, outputs, columns) = (70, 45, 40);
        let (gradient, x) = (noise(tokens * outputs, 1), noise(tokens * columns, 2));
        let summed = |cuts: &[usize]| {
            let mut gradients = zeros((outputs + 3) * columns, outputs);
            let mut from = 0;
            for &to in cuts {
                let (g, x) = (&gradient[from * outputs..to * outputs], &x[from * columns..to * columns]);
                gradients.product("m", 3, g, x, columns);
                gradients.columns("v", 0, g, outputs);
                from = to;
            }
            (gradients.mean("m", 1), gradients.mean("v", 1))
        };
        let (matrix, vector) = summed(&[70]);
        for (o, c) in [(0, 0), (44, 39), (20, 7)] {
            let exact: f64 = (0..tokens)
                .map(|t| f64::from(gradient[t * outputs + o]) * f64::from(x[t * columns + c]))
                .sum();
            assert!((f64::from(matrix[(o + 3) * columns + c]) - exact).abs() < 1e-4);
        }
        assert!(matrix[..3 * columns].iter().all(|&v| v == 0.0));
        let exact: f64 = (0..tokens).map(|t| f64::from(gradient[t * outputs + 44])).sum();
        assert!((f64::from(vector[44]) - exact).abs() < 1e-5);
        assert_eq!(summed(&[1, 20, 21, 70]), (matrix, vector));
    }

    #[test]
    fn rows_are_added_by_number_and_unknown_tensors_are_left_out() {
        let mut gradients = zeros(6, 1);
        gradients.rows("m", &[2, 0, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2);
        gradients.product("other", 0, &[1.0], &[1.0, 1.0], 2);
        assert_eq!(gradients.mean("m", 2), [1.5, 2.0, 0.0, 0.0, 3.0, 4.0]);
        gradients.clear();
        assert_eq!(gradients.mean("m", 1), [0.0; 6]);
    }
}
