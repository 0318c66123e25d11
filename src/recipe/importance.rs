//! The choice of tensors that must not be encoded without an importance matrix.

use kquant_kernels::block::Importance;

use super::roles::{Role, role_of};
use super::{Choice, FileType, TensorFacts};

/// A block type that can be encoded without importance, and the file type in which it must not be, by llama.cpp's policy.
pub(super) const POLICY: (&str, &str) = ("Q2_K", "Q2_K_S");

/// Returns whether `tensor` needs importance to get the type of `choice`.
///
/// Block types that cannot be encoded without importance need it, and so does Q2_K in a Q2_K_S file, except for token
/// embeddings and the output projection, which importance matrices usually lack.
pub fn needs_importance(file_type: &FileType, tensor: &TensorFacts, choice: &Choice) -> bool {
    if choice.block == tensor.source {
        return false;
    }
    let exempt = matches!(role_of("", tensor.name), Role::Output | Role::Embedding);
    let policy = (choice.block.name, file_type.name) == POLICY;
    choice.block.importance == Importance::Required || (policy && !exempt)
}
