//! The type of each matrix of a model, by layer and role.

use serde::Serialize;

use super::Inspected;
use crate::tensor::TensorName;

/// A layer of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeRow {
    /// Number of the layer, from 0.
    pub layer: u32,
    /// Name of the type at each role, `[roles]`; nothing where the layer has no such matrix.
    pub types: Vec<Option<&'static str>>,
}

/// The types of a model's matrices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TypeMap {
    /// Roles of matrices in layers, as GGUF names them, in the order of the file.
    pub roles: Vec<String>,
    /// Layers in their order.
    pub layers: Vec<TypeRow>,
    /// Names and types of the matrices outside the layers.
    pub outside: Vec<(String, &'static str)>,
    /// Number of tensors of one dimension (norms, biases), and the types that they have.
    pub vectors: (usize, Vec<&'static str>),
    /// Bits per weight of each type of the map.
    pub bits: Vec<(&'static str, f64)>,
}

impl TypeMap {
    /// Returns the map of `model`.
    pub fn of(model: &Inspected) -> Self {
        let mut map = Self {
            roles: Vec::new(),
            layers: Vec::new(),
            outside: Vec::new(),
            vectors: (0, Vec::new()),
            bits: Vec::new(),
        };
        for tensor in &model.converted().tensors {
            let (name, kind) = (TensorName(&tensor.name), model.stored_type(tensor));
            if tensor.shape.len() < 2 {
                map.vectors.0 += 1;
                if !map.vectors.1.contains(&kind) {
                    map.vectors.1.push(kind);
                }
                continue;
            }
            match (name.layer(), name.kind()) {
                (Some(layer), Some(role)) => map.set(layer, role, kind),
                _ => map.outside.push((tensor.name.clone(), kind)),
            }
            if !map.bits.iter().any(|(of, _)| *of == kind) {
                map.bits.push((kind, model.bits_of(kind)));
            }
        }
        map.layers.sort_by_key(|row| row.layer);
        let roles = map.roles.len();
        map.layers.iter_mut().for_each(|row| row.types.resize(roles, None));
        map.bits.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(b.0)));
        map
    }

    fn set(&mut self, layer: u32, role: &str, kind: &'static str) {
        let column = self.roles.iter().position(|known| known == role).unwrap_or_else(|| {
            self.roles.push(role.to_owned());
            self.roles.len() - 1
        });
        let row = self.layers.iter().position(|row| row.layer == layer).unwrap_or_else(|| {
            self.layers.push(TypeRow { layer, types: Vec::new() });
            self.layers.len() - 1
        });
        if let Some(row) = self.layers.get_mut(row) {
            row.types.resize(row.types.len().max(column + 1), None);
            row.types[column] = Some(kind);
        }
    }
}
