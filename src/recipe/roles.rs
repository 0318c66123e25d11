//! The roles of tensors, which are recognised by their names.

/// The role of a tensor in the model, as far as mixtures distinguish roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The output projection; also the token embedding of a model that has no output projection of its own.
    Output,
    /// Token embeddings, including those per layer.
    Embedding,
    /// Attention values, and the fused tensors that contain them.
    Value,
    /// Attention keys.
    Key,
    /// Attention queries.
    Query,
    /// The projection of the attention's output.
    AttentionOutput,
    /// Feed-forward up projection, also of experts.
    Up,
    /// Feed-forward gate, also of experts.
    Gate,
    /// Feed-forward down projection, also of experts.
    Down,
    /// Small projections that one family needs at 8 bits or more.
    Sensitive,
    /// Any other tensor.
    Other,
}

/// The name of the table of per-layer embeddings, which some models have in addition.
pub(super) const PER_LAYER_EMBEDDING: &str = "per_layer_token_embd.weight";

/// Roles of whole names.
const NAMES: &[(&str, Role)] = &[
    ("output.weight", Role::Output),
    ("token_embd.weight", Role::Embedding),
    (PER_LAYER_EMBEDDING, Role::Embedding),
];

/// Roles of parts of names, looked up in this order.
const PARTS: &[(&str, Role)] = &[
    ("attn_qkv.weight", Role::Value),
    ("attn_kv_b.weight", Role::Value),
    ("attn_v.weight", Role::Value),
    ("attn_k.weight", Role::Key),
    ("attn_q.weight", Role::Query),
    ("attn_output.weight", Role::AttentionOutput),
    ("ffn_up", Role::Up),
    ("ffn_gate", Role::Gate),
    ("ffn_down", Role::Down),
];

/// An architecture and the parts of names that are [`Role::Sensitive`] in it.
const SENSITIVE: (&str, &[&str]) = ("glm5-next", &["attn_q_a", "attn_q_b", "nextn.eh_proj"]);

/// Returns the role of tensor `name` in a model of architecture `arch`.
pub(super) fn role_of(arch: &str, name: &str) -> Role {
    if let Some(&(_, role)) = NAMES.iter().find(|(whole, _)| *whole == name) {
        return role;
    }
    if arch == SENSITIVE.0 && SENSITIVE.1.iter().any(|part| name.contains(part)) {
        return Role::Sensitive;
    }
    PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |&(_, role)| role)
}
