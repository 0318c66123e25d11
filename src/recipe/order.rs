//! The order in which tensors are decided and written.

use crate::tensor::TensorName;

/// Indices of `names` in llama-quantize's output order: tensors outside the layers first, then layer by layer,
/// by name within each.
pub fn output_order<S: AsRef<str>>(names: &[S]) -> Vec<usize> {
    let mut keyed: Vec<(Option<u32>, &str, usize)> =
        names.iter().enumerate().map(|(i, n)| (TensorName(n.as_ref()).layer(), n.as_ref(), i)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, _, i)| i).collect()
}
