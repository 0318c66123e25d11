//! Which tensors must not be encoded without importance.

use kquant_kernels::block::Importance;

use super::roles::{Role, role_of};
use super::{Choice, FileType, TensorFacts};

/// A block type that can do without importance, and the file type that must not: llama.cpp's policy.
pub(super) const POLICY: (&str, &str) = ("Q2_K", "Q2_K_S");

/// Whether `tensor` must have importance to become what `choice` says.
///
/// True for block types that cannot be encoded without, and for Q2_K in a Q2_K_S file; there token embeddings and the
/// output projection, which importance matrices usually lack, are exempt.
pub fn needs_importance(file_type: &FileType, tensor: &TensorFacts, choice: &Choice) -> bool {
    if choice.block == tensor.source {
        return false;
    }
    let exempt = matches!(role_of("", tensor.name), Role::Output | Role::Embedding);
    let policy = (choice.block.name, file_type.name) == POLICY;
    choice.block.importance == Importance::Required || (policy && !exempt)
}
