//! The tensors of an output before they have types: what a recipe decides about.

use kquant_formats::gguf::Metadata;
use kquant_kernels::block::{self, BlockType};

use super::build::{PlanError, tensor_error};
use super::division::Division;
use crate::checkpoint::{Checkpoint, Opened};
use crate::convert::Converted;
use crate::recipe::{self, ModelFacts, TensorFacts};
use crate::tensor::{Keep, MappedTensor};

/// The tensors of an output in the order in which they are written, each with the type that it has when nothing touches it.
pub struct Inventory<'a> {
    tensors: Vec<&'a MappedTensor>,
    kept: Vec<&'static BlockType>,
    metadata: &'a Metadata,
}

impl<'a> Inventory<'a> {
    /// The tensors of `input` in llama-quantize's order, or by shard where the `division` is that of the input.
    ///
    /// # Errors
    /// [`PlanError::Tensor`] when the table of types lacks one that a tensor is kept in.
    pub fn new(opened: &'a Opened, input: &'a Converted, division: Division) -> Result<Self, PlanError> {
        let tensors = output_order(opened, input, division);
        let kept =
            tensors.iter().map(|t| kept_type(t, opened.checkpoint.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { tensors, kept, metadata: &input.metadata })
    }

    /// The tensors.
    pub fn tensors(&self) -> &[&'a MappedTensor] {
        &self.tensors
    }

    /// What a recipe has to know about each of them, in their order.
    pub fn facts(&self) -> Vec<TensorFacts<'a>> {
        let facts = |(t, &source): (&&'a MappedTensor, &&'static BlockType)| TensorFacts {
            name: &t.name,
            shape: &t.shape,
            source,
        };
        self.tensors.iter().zip(&self.kept).map(facts).collect()
    }

    /// What a recipe has to know about the model, of whose tensors importance is known or not.
    pub fn model_facts(&self, has_importance: bool) -> ModelFacts {
        let names: Vec<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        ModelFacts::from_metadata(self.metadata, &names, has_importance)
    }
}

/// The input's tensors in the order in which they are written: llama-quantize's, by shard when the split is kept.
fn output_order<'a>(opened: &Opened, input: &'a Converted, division: Division) -> Vec<&'a MappedTensor> {
    let tensors = &input.tensors;
    if division == Division::AsInput {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| (shard(&tensors[i], opened), i));
        return order.into_iter().map(|i| &tensors[i]).collect();
    }
    let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    recipe::output_order(&names).into_iter().map(|i| &tensors[i]).collect()
}

/// Number of the input's file that holds the tensor; computed tensors go with the first file.
pub(super) fn shard(tensor: &MappedTensor, opened: &Opened) -> usize {
    let stored = tensor.first_stored().and_then(|index| opened.checkpoint.tensors().get(index));
    stored.map_or(0, |t| t.shard)
}

/// The type that the tensor has when nothing touches it.
fn kept_type(tensor: &MappedTensor, checkpoint: &dyn Checkpoint) -> Result<&'static BlockType, PlanError> {
    let name = match (tensor.first_stored(), tensor.keep) {
        (None, _) | (_, Keep::F32) => "F32",
        (Some(index), Keep::Source) => {
            let stored = checkpoint.tensors().get(index);
            match stored.and_then(|t| t.block.or(t.gathered.and_then(|gathered| gathered.plain))) {
                Some(block) => return Ok(block),
                // 8-bit floats and their scales have no type of their own in GGUF.
                None => "BF16",
            }
        }
    };
    block::by_name(name).ok_or_else(|| tensor_error(tensor, format!("the type table lacks {name}")))
}
