//! Groups of linear maps that share an input, and with it all statistics of that input.

use super::{Model, ModelError, OUTPUT};
use crate::graph;
use crate::graph::Op;

/// Linear maps that share an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearGroup {
    /// GGUF names of the weights, in the order of the pass.
    pub tensors: Vec<String>,
    /// Columns of each matrix.
    pub columns: usize,
    /// Matrices of each tensor that have inputs of their own: experts, or heads.
    pub matrices: usize,
}

impl Model {
    /// Returns the groups of layer `layer`, in the order in which an observer sees their inputs.
    ///
    /// # Errors
    /// Fails when there is no such layer, or a tensor is missing.
    pub fn linear_groups(&self, layer: usize) -> Result<Vec<LinearGroup>, ModelError> {
        let ops = self.ops(layer)?;
        let groups = graph::linear_groups(ops);
        let with_columns = groups.iter().map(|group| {
            let tensors = group.tensors(ops, layer);
            let first = self.tensor(&tensors[0])?;
            let (columns, matrices) = (first.columns() as usize, first.matrices() as usize);
            Ok(LinearGroup { tensors, columns, matrices })
        });
        with_columns.collect()
    }

    /// Returns the GGUF names and numbers of outputs of the linear maps of layer `layer`, in the order of the pass.
    ///
    /// # Errors
    /// Fails when there is no such layer, or a tensor is missing.
    pub fn linear_outputs(&self, layer: usize) -> Result<Vec<(String, usize)>, ModelError> {
        let maps = self.ops(layer)?.iter().filter_map(Op::map).map(|map| graph::weight_name(layer, map.name));
        maps.map(|name| Ok((name.clone(), self.tensor(&name)?.rows_per_matrix() as usize))).collect()
    }

    /// Returns the output projection, which forms a group of its own.
    pub fn output_group(&self) -> LinearGroup {
        LinearGroup { tensors: vec![OUTPUT.to_owned()], columns: self.hyper.hidden, matrices: 1 }
    }
}
