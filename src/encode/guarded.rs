//! Encoders equal to ggml's, guarded against importance that would silently zero weights.

use kquant_kernels::block::BlockType;

use super::ggml::encode_rows;
use super::{Encoder, FINEST_GROUP, Rows};

/// The encoder that equals `ggml` except where a group of columns has no importance at all: such a group gets a small
/// one, where `ggml` would write zeros.
#[derive(Debug)]
pub(super) struct Guarded;

/// Importance of a group that has none, as a fraction of its matrix's mean importance.
const FLOOR: f32 = 1e-3;

impl Encoder for Guarded {
    fn name(&self) -> &'static str {
        "guarded"
    }

    fn about(&self) -> &'static str {
        "equal to ggml, but columns without any importance are floored instead of zeroed"
    }

    fn prepare_importance(&self, importance: &[f32], columns: usize) -> Vec<f32> {
        let mut floored = importance.to_vec();
        for matrix in floored.chunks_mut(columns) {
            let mean = (matrix.iter().map(|&w| f64::from(w)).sum::<f64>() / matrix.len() as f64) as f32;
            // A matrix without any importance is encoded as if all columns were equally important.
            let floor = if mean > 0.0 { mean * FLOOR } else { 1.0 };
            for group in matrix.chunks_mut(FINEST_GROUP).filter(|g| g.iter().all(|&w| w == 0.0)) {
                group.fill(floor);
            }
        }
        floored
    }

    fn encode(&self, block: &BlockType, rows: Rows<'_>, importance: Option<&[f32]>, out: &mut [u8]) {
        encode_rows(block, rows, importance, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_zeros_are_floored() {
        let mut importance = vec![2.0; 64];
        importance[16..32].fill(0.0);
        importance[40] = 0.0;
        let floored = Guarded.prepare_importance(&importance, 64);
        assert!(floored[16..32].iter().all(|&w| w > 0.0 && w < 0.01));
        assert_eq!(floored[40], 0.0);
        assert_eq!(floored[..16], importance[..16]);
    }

    #[test]
    fn a_matrix_without_importance_is_uniform() {
        let importance = [vec![0.0; 32], vec![3.0; 32]].concat();
        assert_eq!(Guarded.prepare_importance(&importance, 32), [vec![1.0; 32], vec![3.0; 32]].concat());
    }
}
