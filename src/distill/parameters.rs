//! The weights that are trained.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use kquant_formats::FormatError;
use kquant_kernels::block::by_name;

use super::DistillError;
use crate::model::{Model, ModelError, ParameterKind};
use crate::tensor::{Replaced, Stash};

/// Which weights are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// All that have gradients.
    All,
    /// Those of linear maps in the layers.
    Linear,
    /// Those of norms, all biases, and those of recurrent layers outside linear maps.
    Norms,
}

impl Trained {
    fn has(self, kind: ParameterKind) -> bool {
        match self {
            Self::All => true,
            Self::Linear => kind == ParameterKind::Linear,
            Self::Norms => {
                matches!(kind, ParameterKind::Norm | ParameterKind::Bias | ParameterKind::Recurrent)
            }
        }
    }
}

/// One tensor that is trained.
#[derive(Debug)]
pub(super) struct Parameter {
    pub kind: ParameterKind,
    /// Number of columns of a row.
    pub columns: usize,
    /// Rows of each of its matrices.
    pub rows: usize,
    /// `[matrices][rows][columns]`.
    pub values: Vec<f32>,
}

/// The size of a tensor that is trained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub kind: ParameterKind,
    pub weights: u64,
    /// Rows of each of its matrices.
    pub rows: u64,
    pub columns: u64,
}

/// The trained weights by GGUF name. A model reads them in the place of those of its file.
#[derive(Debug)]
pub struct Parameters {
    all: BTreeMap<String, RwLock<Parameter>>,
}

impl Parameters {
    /// Returns the sizes of what of `model` is trained.
    pub(super) fn shapes(model: &Model, trained: Trained) -> Vec<Shape> {
        let shape = |(name, kind): (String, ParameterKind)| {
            let tensor = model.find(&name).filter(|_| trained.has(kind))?;
            let (rows, columns) = (tensor.rows_per_matrix(), tensor.columns());
            Some(Shape { kind, weights: tensor.weights(), rows, columns })
        };
        model.trainable().into_iter().filter_map(shape).collect()
    }

    /// Reads what of `model` is trained.
    pub(super) fn read(model: &Model, trained: Trained) -> Result<Self, DistillError> {
        let wanted = model.trainable().into_iter().filter(|(_, kind)| trained.has(*kind));
        let read = |(name, kind): (String, ParameterKind)| {
            let missing = || ModelError::Tensor { tensor: name.clone(), what: "is missing".into() };
            let tensor = model.find(&name).ok_or_else(missing)?;
            let values = model.values(tensor)?;
            let (columns, rows) = (tensor.columns() as usize, tensor.rows_per_matrix() as usize);
            Ok((name, RwLock::new(Parameter { kind, columns, rows, values })))
        };
        Ok(Self { all: wanted.map(read).collect::<Result<_, ModelError>>()? })
    }

    /// Returns the names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// Calls `f` with the tensor `name`, if it is trained.
    pub(super) fn with<T>(&self, name: &str, f: impl FnOnce(&Parameter) -> T) -> Option<T> {
        Some(f(&self.all.get(name)?.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Calls `f` with the tensor `name` for changes, if it is trained.
    pub(super) fn change<T>(&self, name: &str, f: impl FnOnce(&mut Parameter) -> T) -> Option<T> {
        Some(f(&mut self.all.get(name)?.write().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Returns the number of weights.
    pub(super) fn weights(&self) -> usize {
        self.names().filter_map(|name| self.with(name, |parameter| parameter.values.len())).sum()
    }

    /// Returns a copy of all values.
    pub(super) fn snapshot(&self) -> BTreeMap<String, Vec<f32>> {
        self.names()
            .filter_map(|name| {
                Some((name.to_owned(), self.with(name, |parameter| parameter.values.clone())?))
            })
            .collect()
    }

    /// Puts the values of a copy back.
    pub(super) fn restore(&self, snapshot: BTreeMap<String, Vec<f32>>) {
        for (name, values) in snapshot {
            self.change(&name, |parameter| parameter.values = values);
        }
    }

    /// Returns the weights as tensors in f32, of which up to `memory` bytes are held in memory.
    pub(super) fn stash(&self, memory: u64) -> Result<Stash, DistillError> {
        let mut stash = Stash::new(memory);
        let Some(block) = by_name("F32") else { return Ok(stash) };
        for name in self.names() {
            let kept = self.with(name, |Parameter { columns, values, .. }| {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                stash.insert(name, block, *columns, bytes)
            });
            kept.transpose()?;
        }
        Ok(stash)
    }
}

impl Replaced for Parameters {
    fn rows(&self, tensor: &str, first: u64, out: &mut [f32]) -> Option<Result<(), FormatError>> {
        let parameter = self.all.get(tensor)?.read().unwrap_or_else(PoisonError::into_inner);
        let from = first as usize * parameter.columns;
        out.copy_from_slice(parameter.values.get(from..from + out.len())?);
        Some(Ok(()))
    }
}
