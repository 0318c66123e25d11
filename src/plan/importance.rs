//! Which importance each tensor gets, checked before anything is encoded.

use std::collections::{BTreeMap, BTreeSet};

use kquant_formats::imatrix::Imatrix;
use kquant_kernels::block::{BlockType, Importance as Use};

use crate::encode::zero_groups;
use crate::tensor::MappedTensor;

/// Importance of each tensor's columns, `[matrices][columns]`, by GGUF name.
pub type ImportanceMap = BTreeMap<String, Vec<f32>>;

/// A tensor's importance does not fit it, or is missing where its type cannot do without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportanceError {
    /// Wrong length.
    #[error(
        "importance matrix: `{tensor}` has {found} values, the tensor {shape:?} needs {expected}. It was made from another model"
    )]
    Length {
        /// GGUF name.
        tensor: String,
        /// Its shape, columns first.
        shape: Vec<u64>,
        /// Values in the file.
        found: usize,
        /// Values wanted: columns times matrices.
        expected: u64,
    },
    /// No entry.
    #[error(
        "tensor `{tensor}` becomes {block}, which needs to know what its weights count{}. Give a text with --calibrate, an importance matrix \
         with --imatrix, or choose another type",
        if *.given { ", and the importance matrix has no entry for it" } else { "" }
    )]
    Missing {
        /// GGUF name.
        tensor: String,
        /// The type.
        block: &'static str,
        /// Whether there is an importance matrix at all.
        given: bool,
    },
}

/// The table of embeddings, which in a tied model is the output projection, too.
const EMBEDDING: &str = "token_embd.weight";
/// The output projection.
const OUTPUT: &str = "output.weight";

/// Tensors whose statistics llama-imatrix does not collect as such: token embeddings are looked up, not multiplied.
fn is_lookup(name: &str) -> bool {
    name == EMBEDDING || name == "per_layer_token_embd.weight"
}

/// Tensors that importance matrices seldom have: nobody needs telling.
fn is_uncollected(name: &str) -> bool {
    is_lookup(name) || name == OUTPUT
}

/// Importance per tensor that is encoded with it, and remarks.
pub(super) fn select(
    tensors: &[(&MappedTensor, &'static BlockType)],
    encoded: &[bool],
    required: &[bool],
    imatrix: Option<&Imatrix>,
) -> Result<(ImportanceMap, Vec<String>), ImportanceError> {
    let mut selected = ImportanceMap::new();
    let (mut uncovered, mut zeros) = (Vec::new(), Vec::new());
    let names: BTreeSet<&str> = tensors.iter().map(|(t, _)| t.name.as_str()).collect();
    // In a tied model the embeddings are the output projection, under whose name statistics files know it.
    let output = (!names.contains(OUTPUT)).then_some(OUTPUT);
    for (i, &(tensor, block)) in tensors.iter().enumerate() {
        let other = output.filter(|_| tensor.name == EMBEDDING);
        let entry = imatrix.and_then(|m| m.entries.get(&tensor.name).or_else(|| m.entries.get(other?)));
        let expected = tensor.shape.first().unwrap_or(&1) * tensor.shape.get(2).unwrap_or(&1);
        let values = match entry.map(|e| e.importance()) {
            Some(v) if v.len() as u64 == expected => Some(v),
            Some(v) if !is_lookup(&tensor.name) => {
                return Err(ImportanceError::Length {
                    tensor: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    found: v.len(),
                    expected,
                });
            }
            _ => None,
        };
        match values {
            Some(values) => {
                if encoded[i] && block.importance != Use::Ignored && zero_groups(&values) > 0 {
                    zeros.push(tensor.name.as_str());
                }
                selected.insert(tensor.name.clone(), values);
            }
            None if required[i] => {
                return Err(ImportanceError::Missing {
                    tensor: tensor.name.clone(),
                    block: block.name,
                    given: imatrix.is_some(),
                });
            }
            None if imatrix.is_some()
                && encoded[i]
                && block.importance != Use::Ignored
                && !is_uncollected(&tensor.name) =>
            {
                uncovered.push(tensor.name.as_str());
            }
            None => {}
        }
    }
    let mut warnings = Vec::new();
    if let Some(imatrix) = imatrix {
        let known =
            |name: &&str| names.contains(name) || (output == Some(*name) && names.contains(EMBEDDING));
        let unknown: Vec<&str> =
            imatrix.entries.keys().map(String::as_str).filter(|name| !known(name)).collect();
        warn(&mut warnings, &uncovered, "have no importance and are encoded without");
        warn(
            &mut warnings,
            &zeros,
            "have columns without any importance: --encoder ggml zeroes weights there, others floor it",
        );
        warn(&mut warnings, &unknown, "are in the importance matrix but not in the model");
    }
    Ok((selected, warnings))
}

fn warn(warnings: &mut Vec<String>, tensors: &[&str], what: &str) {
    const SHOWN: usize = 4;
    if tensors.is_empty() {
        return;
    }
    let more = if tensors.len() > SHOWN { ", ..." } else { "" };
    let names = tensors[..tensors.len().min(SHOWN)].join(", ");
    warnings.push(format!("{} tensors {what}: {names}{more}", tensors.len()));
}
