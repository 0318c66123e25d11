//! The order in which types of tensors are chosen and tensors are written.

use crate::tensor::TensorName;

/// Returns the indices of `names` in llama-quantize's output order: tensors outside the layers first, then layer by layer,
/// by name within each.
pub fn output_order<S: AsRef<str>>(names: &[S]) -> Vec<usize> {
    let mut keyed: Vec<(Option<u32>, &str, usize)> =
        names.iter().enumerate().map(|(i, n)| (TensorName(n.as_ref()).layer(), n.as_ref(), i)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, _, i)| i).collect()
}
