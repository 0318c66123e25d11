//! The importance of the output projection of a tied model, which is its token embeddings.

use kquant_formats::imatrix::Imatrix;

use crate::model::{EMBEDDING, Model, OUTPUT};

/// Moves the output projection's entry of `matrix` to the name of the tensor that `model` projects with: in a tied model
/// this is the token embeddings, where `quantize` and llama-quantize look for it.
pub fn name_output(matrix: &mut Imatrix, model: &Model) {
    if model.is_tied()
        && let Some(entry) = matrix.entries.remove(OUTPUT)
    {
        matrix.entries.insert(EMBEDDING.to_owned(), entry);
    }
}
