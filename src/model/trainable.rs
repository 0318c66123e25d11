//! The tensors of a model whose gradients a backward pass gives.

use super::layer_inputs::{LAYER_EMBEDDING, LAYER_NORM, LAYER_PROJECTION};
use super::ops::{RATE, SKIP, STEP_BIAS};
use super::{EMBEDDING, EMBEDDING_NORM, Model, OUTPUT, OUTPUT_BIAS, POSITIONS, TOKEN_TYPES};
use crate::graph::{Op, weight_name};
use crate::tensor::TensorName;

/// What a tensor is to the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// The weight of a linear map, with one matrix or several.
    Linear,
    /// Weights or biases of a norm.
    Norm,
    /// The bias of a linear map.
    Bias,
    /// Weights of a recurrent layer outside its linear maps: of the convolution, and the rates of the heads.
    Recurrent,
    /// Rows that are looked up by token or position, and the output projection.
    Table,
}

impl Model {
    /// Returns the names of all tensors that a [`WeightObserver`](super::WeightObserver) is shown, in the order of the forward
    /// pass, each once.
    ///
    /// Not among them are attention sinks, scales of experts and of the stream, and what only chooses experts: these stay as they are.
    pub fn trainable(&self) -> Vec<(String, ParameterKind)> {
        let tables = [EMBEDDING, POSITIONS, TOKEN_TYPES].map(|name| (name.to_owned(), ParameterKind::Table));
        let mut all = tables.to_vec();
        if self.graph.embedding_norm.is_some() {
            all.extend(self.norm_parts(EMBEDDING_NORM));
        }
        let norm = format!("{LAYER_NORM}.weight");
        all.extend([LAYER_EMBEDDING, LAYER_PROJECTION].map(|name| (name.to_owned(), ParameterKind::Table)));
        all.push((norm, ParameterKind::Norm));
        for (layer, ops) in self.layers.iter().enumerate() {
            for op in ops {
                if let Op::Scan(_) = op {
                    let whole = [RATE, STEP_BIAS, SKIP].map(|name| format!("blk.{layer}.{name}"));
                    all.extend(whole.map(|name| (name, ParameterKind::Recurrent)));
                    continue;
                }
                let (name, part, of_bias) = match *op {
                    Op::Norm { name, .. } => (name, ParameterKind::Norm, ParameterKind::Norm),
                    Op::Linear { name, .. } | Op::Matrices { name, .. } => {
                        (name, ParameterKind::Linear, ParameterKind::Bias)
                    }
                    Op::Convolve { name, .. } => (name, ParameterKind::Recurrent, ParameterKind::Recurrent),
                    _ => continue,
                };
                let weight = match op {
                    Op::Norm { .. } => self.norm_weight(&format!("blk.{layer}.{name}")),
                    _ => weight_name(layer, name),
                };
                let bias = TensorName(&weight).bias();
                all.extend([(weight, part), (bias, of_bias)]);
            }
        }
        all.extend(self.graph.final_norm_name.into_iter().flat_map(|name| self.norm_parts(name)));
        all.extend([
            (OUTPUT.to_owned(), ParameterKind::Table),
            (OUTPUT_BIAS.to_owned(), ParameterKind::Bias),
        ]);
        all.retain(|(name, _)| self.find(name).is_some());
        all
    }

    /// Returns the tensors that the norm `name` outside the layers may have.
    fn norm_parts(&self, name: &str) -> [(String, ParameterKind); 2] {
        let weight = self.norm_weight(name);
        [(TensorName(&weight).bias(), ParameterKind::Norm), (weight, ParameterKind::Norm)]
    }
}
