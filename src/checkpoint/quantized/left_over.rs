//! Settings of a quantization that no longer apply, because the weights were written back as plain numbers.

use std::path::Path;

use kquant_formats::safetensors::{Dtype, SafeTensors, TensorInfo};

use super::config::Quantization;

/// Ends of the names of tensors that belong to a weight in codes, whatever their type: scales, zero points, code books
/// and the like.
const PARTS: [&str; 22] = [
    ".weight_scale",
    "_scale_inv",
    "_scale_2",
    "_scale_ub",
    "_global_scale",
    "input_scale",
    "output_scale",
    "activation_scale",
    ".q_scale",
    ".k_scale",
    ".v_scale",
    ".scales",
    "_zero_point",
    ".qweight",
    ".qzeros",
    "g_idx",
    ".weight_shape",
    "_packed",
    ".SCB",
    ".absmax",
    ".quant_map",
    ".codebooks",
];

/// Ends of the names of whole numbers that plain checkpoints have as well: masks and positions.
const BUFFERS: [&str; 3] = [".bias", "masked_bias", "position_ids"];

/// Removes the settings if `file`, in `folder`, has no packed weights; returns a note on it.
///
/// Settings that change the model's computation for any weights are kept.
pub(crate) fn left_over(
    quantization: Option<Quantization>,
    folder: &Path,
    file: &SafeTensors,
) -> (Option<Quantization>, Option<String>) {
    match quantization {
        Some(found) if !found.computes && !file.tensors().iter().any(is_packed) => {
            let note = format!(
                "{}: says that the weights are quantized ({}), but no tensor is packed; they are taken as they are, and the \
                 settings are left out",
                folder.join(found.file).display(),
                found.method
            );
            (None, Some(note))
        }
        other => (other, None),
    }
}

/// Returns true if `tensor` holds codes, or belongs to a weight that does.
fn is_packed(tensor: &TensorInfo) -> bool {
    let ends = |ends: &[&str]| ends.iter().any(|end| tensor.name.ends_with(end));
    let plain = matches!(
        tensor.dtype,
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::C64 | Dtype::I64 | Dtype::Bool
    );
    ends(&PARTS) || !(plain || ends(&BUFFERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, dtype: Dtype) -> TensorInfo {
        TensorInfo { name: name.into(), dtype, shape: vec![1], shard: 0, offset: 0, bytes: dtype.bytes() }
    }

    #[test]
    fn codes_and_what_belongs_to_them_are_packed() {
        let types =
            [Dtype::U8, Dtype::I8, Dtype::I16, Dtype::I32, Dtype::F8E4M3, Dtype::F8E5M2, Dtype::F8E8M0];
        assert!(types.iter().all(|&dtype| is_packed(&tensor("a.weight", dtype))));
        for name in PARTS {
            assert!(is_packed(&tensor(&format!("a{name}"), Dtype::F32)), "{name}");
        }
    }

    #[test]
    fn weights_and_buffers_of_plain_checkpoints_are_not() {
        for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
            assert!(!is_packed(&tensor("a.weight", dtype)));
        }
        let buffers = [
            ("h.0.attn.bias", Dtype::U8),
            ("h.0.attn.bias", Dtype::Bool),
            ("gpt_neox.layers.0.attention.masked_bias", Dtype::U8),
            ("embeddings.position_ids", Dtype::I64),
            ("embeddings.position_ids", Dtype::I32),
            ("bn.num_batches_tracked", Dtype::I64),
            ("logit_scale", Dtype::F32),
            ("layers.0.layer_scale", Dtype::BF16),
        ];
        for (name, dtype) in buffers {
            assert!(!is_packed(&tensor(name, dtype)), "{name}");
        }
    }
}
