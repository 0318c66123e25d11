//! A checkpoint in memory, for tests.

use std::collections::BTreeSet;

use kquant::checkpoint::{Checkpoint, ReadError, TensorInfo};
use kquant::tensor::{MappedTensor, RowOrder, Source};
use kquant_formats::source::Extent;
use safetensors::{Dtype, SafeTensors};

/// Tensors with their values, all in one file.
#[derive(Default)]
pub struct Memory {
    infos: Vec<TensorInfo>,
    values: Vec<Vec<f32>>,
}

impl Memory {
    /// Decodes a safetensors file of BF16 tensors.
    pub fn from_safetensors(bytes: &[u8]) -> Self {
        let mut memory = Self::default();
        let file = SafeTensors::deserialize(bytes).unwrap();
        for name in file.names().into_iter().collect::<BTreeSet<_>>() {
            let view = file.tensor(name).unwrap();
            assert_eq!(view.dtype(), Dtype::BF16);
            let half = view
                .data()
                .chunks_exact(2)
                .map(|pair| half::bf16::from_le_bytes([pair[0], pair[1]]).to_f32());
            let shape: Vec<u64> = view.shape().iter().map(|&n| n as u64).collect();
            memory.push(name, &shape, half.collect());
        }
        memory
    }

    /// Adds a tensor, with its values or with none.
    pub fn push(&mut self, name: &str, shape: &[u64], values: Vec<f32>) {
        assert!(values.is_empty() || values.len() as u64 == shape.iter().product::<u64>());
        self.infos.push(TensorInfo {
            name: name.into(),
            shape: shape.into(),
            dtype: "BF16",
            block: None,
            stored: (1, 2),
            gathered: None,
            shard: 0,
        });
        self.values.push(values);
    }

    /// Adds a tensor whose values count up from 0.
    pub fn push_counting(&mut self, name: &str, shape: &[u64]) {
        self.push(name, shape, (0..shape.iter().product::<u64>()).map(|i| i as f32).collect());
    }

    pub fn remove(&mut self, name: &str) {
        let at = self.find(name).unwrap();
        self.infos.remove(at);
        self.values.remove(at);
    }

    pub fn rename(&mut self, rename: impl Fn(&str) -> String) {
        for info in &mut self.infos {
            info.name = rename(&info.name);
        }
    }

    /// Changes the shape that is told, not the values.
    pub fn reshape(&mut self, name: &str, shape: &[u64]) {
        let at = self.find(name).unwrap();
        self.infos[at].shape = shape.into();
    }

    /// Moves the tensor to another file.
    pub fn set_shard(&mut self, name: &str, shard: usize) {
        let at = self.find(name).unwrap();
        self.infos[at].shard = shard;
    }

    pub fn reverse(&mut self) {
        self.infos.reverse();
        self.values.reverse();
    }

    /// The output tensor's values in storage order.
    pub fn values_of(&self, tensor: &MappedTensor) -> Vec<f32> {
        let (index, rows) = match &tensor.source {
            Source::Values(values) => return values.clone(),
            Source::Shifted { index, by } => return self.values[*index].iter().map(|v| v + by).collect(),
            Source::Stacked { indices } => {
                return indices.iter().flat_map(|&i| self.values[i].clone()).collect();
            }
            Source::Tensor { index, rows } => (*index, *rows),
            Source::Rates { of } => {
                return self.values_of(of).iter().map(|&v| kquant::tensor::rate(v)).collect();
            }
            Source::Scaled { of, factors } => {
                let mut values = self.values_of(of);
                for (row, values) in (0..).zip(values.chunks_mut(of.shape[0] as usize)) {
                    let own = factors.iter().filter(|factors| factors.rows.contains(&row));
                    own.flat_map(|factors| &factors.by)
                        .for_each(|by| values.iter_mut().for_each(|v| *v *= by));
                }
                return values;
            }
            Source::Selected { of, selection } => {
                let (values, width) = (self.values_of(of), of.shape[0] as usize);
                let all = |list: &Option<std::sync::Arc<[u32]>>, count: usize| -> Vec<usize> {
                    list.as_ref()
                        .map_or((0..count).collect(), |list| list.iter().map(|&n| n as usize).collect())
                };
                let columns = all(&selection.columns, width);
                let rows = all(&selection.rows, values.len() / width).into_iter();
                let places = rows.flat_map(|row| columns.iter().map(move |c| row * width + c));
                return places.map(|place| values[place]).collect();
            }
            Source::Changed { .. } => {
                panic!("{}: changed by no conversion", tensor.name)
            }
        };
        let (values, shape) = (&self.values[index], &self.infos[index].shape);
        let bias = tensor.name.ends_with(".bias") || shape.len() < 2;
        let columns = if bias { 1 } else { shape[shape.len() - 1] as usize };
        let order: Vec<usize> = match rows {
            RowOrder::Flat => (0..values.len()).collect(),
            RowOrder::Transposed { stride, skip, first, step } => {
                let [stride, skip, first, step] = [stride, skip, first, step].map(|n| n as usize);
                let ne: Vec<usize> = tensor.shape.iter().map(|&n| n as usize).collect();
                let matrices = ne.get(2).copied().unwrap_or(1);
                let at = |m: usize, r: usize, c: usize| (m * stride + skip + c) * columns + first + r * step;
                let row = |m: usize, r: usize| (0..ne[0]).map(move |c| at(m, r, c));
                (0..matrices).flat_map(|m| (0..ne[1]).flat_map(move |r| row(m, r))).collect()
            }
            _ => {
                let count = tensor.shape.iter().product::<u64>() as usize / columns;
                let source = |row: usize| rows.source(row as u64, count as u64).unwrap() as usize;
                (0..count).flat_map(|r| (0..columns).map(move |c| source(r) * columns + c)).collect()
            }
        };
        order.into_iter().map(|i| values[i]).collect()
    }
}

impl Checkpoint for Memory {
    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.infos.iter().position(|info| info.name == name)
    }

    // Mappings are told of names and shapes alone.
    fn extent(&self, tensor: usize) -> Result<Extent<'_>, ReadError> {
        Err(ReadError(format!("tensor {tensor} is in no file")))
    }

    fn decode(&self, tensor: usize, _: (u64, u64), _: &[u8], _: &mut [f32]) -> Result<(), ReadError> {
        Err(ReadError(format!("tensor {tensor} is not encoded")))
    }
}
