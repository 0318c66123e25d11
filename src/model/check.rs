//! Checks that every tensor of the forward pass exists and has the shape that the keys require.

use std::collections::BTreeMap;

use crate::graph::{By, Experts, Hyper, SLOTS, Slot, weight_name};
use crate::model::layer_inputs::{LAYER_EMBEDDING, LAYER_NORM, LAYER_PROJECTION};
use crate::model::ops::operation;
use crate::model::{
    EMBEDDING, EMBEDDING_NORM, Model, ModelError, OUTPUT, OUTPUT_NAME, POSITIONS, TOKEN_TYPES,
};
use crate::tensor::MappedTensor;

/// Shapes of a layer's tensors and widths of its slots, while its operations are checked in order. Names of tensors lack
/// `blk.N.` and `.weight`.
pub(super) struct Shapes<'a> {
    model: &'a Model,
    layer: usize,
    /// Widths of the slots, as far as the tensors checked so far determine them.
    widths: [Option<usize>; SLOTS],
    /// Names of the linear maps that wrote the slots last.
    makers: BTreeMap<Slot, String>,
}

impl Model {
    /// Checks all tensors and returns the largest width of each slot.
    pub(super) fn check_shapes(&self) -> Result<[usize; SLOTS], ModelError> {
        let (hidden, vocab) = (self.hyper.hidden as u64, self.vocab as u64);
        self.check(EMBEDDING, &[hidden, vocab])?;
        let entry = self.graph.embedding_norm.map(|_| EMBEDDING_NORM);
        for norm in entry.into_iter().chain(self.graph.final_norm_name) {
            self.check(&self.norm_weight(norm), &[hidden])?;
            self.check_bias(norm, &[hidden])?;
        }
        if let Some(types) = self.find(TOKEN_TYPES) {
            self.check(TOKEN_TYPES, &[hidden, types.rows()])?;
        }
        if self.find(OUTPUT).is_some() {
            self.check(OUTPUT, &[hidden, vocab])?;
        }
        self.check_bias(OUTPUT_NAME, &[vocab])?;
        if self.graph.learned_positions {
            self.check(POSITIONS, &[hidden, self.hyper.context as u64])?;
        }
        if self.hyper.layer_input > 0 {
            let (width, all) = (self.hyper.layer_input as u64, self.layer_inputs_width() as u64);
            self.check(LAYER_EMBEDDING, &[all, vocab])?;
            self.check(LAYER_PROJECTION, &[hidden, all])?;
            self.check(&format!("{LAYER_NORM}.weight"), &[width])?;
        }
        let mut widest = [0; SLOTS];
        for (layer, ops) in self.layers.iter().enumerate() {
            let mut shapes = Shapes { model: self, layer, widths: [None; SLOTS], makers: BTreeMap::new() };
            shapes.set_width(Slot::Stream, self.hyper.hidden);
            for op in ops {
                operation(op).check(&mut shapes)?;
                for slot in op.reads().into_iter().chain(op.writes()) {
                    let width = shapes.found_width(slot).or(self.hyper.width(slot, layer)).unwrap_or(0);
                    widest[slot as usize] = width.max(widest[slot as usize]);
                }
            }
        }
        Ok(widest)
    }

    /// Checks the shape of the bias `name.bias`, if there is one.
    fn check_bias(&self, name: &str, shape: &[u64]) -> Result<(), ModelError> {
        let bias = format!("{name}.bias");
        if self.find(&bias).is_some() { self.check(&bias, shape) } else { Ok(()) }
    }

    /// Returns the keys of the mixture of experts that `tensor` belongs to.
    pub(super) fn experts(&self, tensor: &str) -> Result<&Experts, ModelError> {
        self.hyper.experts.as_ref().ok_or_else(|| wrong(tensor, "is there, the key expert_count is not"))
    }
}

impl<'a> Shapes<'a> {
    /// Returns the model's hyper-parameters.
    pub(super) fn hyper(&self) -> &'a Hyper {
        &self.model.hyper
    }

    /// Returns the number of the layer.
    pub(super) fn layer(&self) -> usize {
        self.layer
    }

    /// Returns the keys of the mixture of experts that the weight `name` belongs to.
    pub(super) fn experts(&self, name: &str) -> Result<&'a Experts, ModelError> {
        self.model.experts(&self.weight_name(name))
    }

    /// Returns the GGUF name `blk.N.{name}.weight`.
    pub(super) fn weight_name(&self, name: &str) -> String {
        weight_name(self.layer, name)
    }

    /// Returns the error of the content of `slot`, which the keys want to be `wanted` wide.
    pub(super) fn width_error(&self, slot: Slot, wanted: usize) -> ModelError {
        let found = self.width(slot).unwrap_or(0);
        match self.makers.get(&slot) {
            Some(name) => wrong(
                &self.weight_name(name),
                &format!("has {found} rows, the model's keys ask for {wanted}"),
            ),
            None => self.graph_error(format!("cuts {found} values of {slot:?} into {wanted}")),
        }
    }

    /// Returns the error of a layer whose operations do not fit each other.
    pub(super) fn graph_error(&self, what: String) -> ModelError {
        ModelError::Graph { layer: self.layer, what }
    }

    /// Checks the shape of the tensor `blk.N.{name}`, given with columns first.
    pub(super) fn check_tensor(&self, name: &str, shape: &[u64]) -> Result<(), ModelError> {
        self.model.check(&format!("blk.{}.{name}", self.layer), shape)
    }

    /// Returns the tensor of the weights of the norm `name`, and its name without `blk.N.`.
    pub(super) fn norm(&self, name: &str) -> Result<(String, &'a MappedTensor), ModelError> {
        let prefix = format!("blk.{}.", self.layer);
        let full = self.model.norm_weight(&format!("{prefix}{name}"));
        let tensor = self.model.tensor(&full)?;
        Ok((full.strip_prefix(&prefix).unwrap_or(&full).to_owned(), tensor))
    }

    /// Returns the tensor of the weight `name`.
    pub(super) fn weight(&self, name: &str) -> Result<&'a MappedTensor, ModelError> {
        self.model.tensor(&self.weight_name(name))
    }

    /// Checks the shape of the weight `name`, given with columns first.
    pub(super) fn check_weight(&self, name: &str, shape: &[u64]) -> Result<(), ModelError> {
        self.model.check(&self.weight_name(name), shape)
    }

    /// Checks the shape of the bias `name`, if there is one.
    pub(super) fn check_bias(&self, name: &str, shape: &[u64]) -> Result<(), ModelError> {
        self.model.check_bias(&format!("blk.{}.{name}", self.layer), shape)
    }

    /// Returns the width of the content of `slot`, if the keys or the tensors checked so far determine it.
    pub(super) fn width(&self, slot: Slot) -> Option<usize> {
        self.hyper().width(slot, self.layer).or(self.found_width(slot))
    }

    /// Returns the width of `slot` that the tensors checked so far determine.
    pub(super) fn found_width(&self, slot: Slot) -> Option<usize> {
        self.widths[slot as usize]
    }

    /// Records that `slot` is `width` wide from here on.
    pub(super) fn set_width(&mut self, slot: Slot, width: usize) {
        self.widths[slot as usize] = Some(width);
    }

    /// Checks the linear map `name`: its columns must match the width of its input, its rows that of its output.
    pub(super) fn check_map(
        &mut self,
        name: &str,
        input: Slot,
        output: Slot,
        by: Option<By>,
    ) -> Result<(), ModelError> {
        let tensor = self.weight(name)?;
        let (matrices, parts) = match by {
            None => (1, 1),
            Some(By::Heads) => (self.hyper().heads, self.hyper().heads),
            Some(By::Routes) => self.experts(name).map(|experts| (experts.count, experts.used))?,
        };
        let found = [tensor.columns() as usize, tensor.rows_per_matrix() as usize];
        // A row has a part for every matrix that it is routed to, except in the normed stream, which all experts read.
        let input_parts = if input == Slot::Normed { 1 } else { parts };
        let inputs = self.width(input).map_or(found[0], |width| width / input_parts);
        let outputs = self.hyper().width(output, self.layer).map_or(found[1], |width| width / parts);
        let with_matrices = |mut shape: Vec<u64>| {
            shape.extend(by.map(|_| matrices as u64));
            shape
        };
        self.check_weight(name, &with_matrices(vec![inputs as u64, outputs as u64]))?;
        self.set_width(output, outputs * parts);
        self.makers.insert(output, name.to_owned());
        self.check_bias(name, &with_matrices(vec![outputs as u64]))
    }
}

/// Returns the error of a tensor that does not fit.
pub(super) fn wrong(tensor: &str, what: &str) -> ModelError {
    ModelError::Tensor { tensor: tensor.to_owned(), what: what.into() }
}
