//! The choice of tensors that may be converted; all others are copied as they are.

use super::TensorFacts;

/// Parts of names whose tensors are copied: they are too small, too sensitive, or no matrices of a linear layer.
const KEPT_PARTS: &[&str] = &[
    // Norms.
    "_norm.weight",
    // Routers of experts.
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    // Gemma 3n's small matrices.
    "altup",
    "laurel",
    "per_layer_model_proj",
    // Convolutions of state-space models.
    "ssm_conv1d",
    "shortconv.conv.weight",
    // Indexers of sparse attention.
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    // RWKV's low-rank pairs and vectors.
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    // T5's relative positions.
    "attn_rel_b.weight",
    // Vision towers.
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    // Audio codebooks.
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// Whole names whose tensors are copied.
const KEPT_NAMES: &[&str] = &["position_embd.weight", "token_types.weight"];

/// An architecture, and further parts of names whose tensors are copied in it alone.
const KEPT_PARTS_OF: (&str, &[&str]) = (
    "glm5-next",
    &[
        "hc_",
        "indexer.attn_q_b",
        "indexer.attn_k",
        "indexer.proj",
        "indexer_compressor_gate",
        "indexer_compressor_ape",
        "ssm_f_a.weight",
        "ssm_f_b.weight",
        "ssm_g_a.weight",
        "ssm_g_b.weight",
        "ssm_beta.weight",
        "attn_kv_a_mqa.weight",
        "attn_k_b.weight",
        "attn_v_b.weight",
    ],
);

/// Plain types that hold weights; tensors of integers hold tables and are copied.
const FLOATS: &[&str] = &["F32", "F16", "BF16", "F64"];

/// Returns whether `tensor` may get another type.
pub(crate) fn may_convert(arch: &str, leave_output: bool, tensor: &TensorFacts) -> bool {
    let name = tensor.name;
    let contains = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let holds_weights = tensor.source.quantized || FLOATS.contains(&tensor.source.name);
    is_matrix(tensor.shape)
        && holds_weights
        && name.ends_with("weight")
        && !KEPT_NAMES.contains(&name)
        && !contains(KEPT_PARTS)
        && !(arch == KEPT_PARTS_OF.0 && contains(KEPT_PARTS_OF.1))
        && !(leave_output && name == "output.weight")
}

/// Returns whether any dimension other than the row length is more than 1.
fn is_matrix(shape: &[u64]) -> bool {
    shape.iter().skip(1).any(|&n| n > 1)
}
