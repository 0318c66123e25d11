//! A safetensors checkpoint, single or sharded; 8-bit floats are multiplied by their `weight_scale_inv` as they are read,
//! 4-bit floats and their scales become blocks.

use std::collections::HashMap;

use kquant_formats::safetensors::{Dtype, SafeTensors};
use kquant_formats::source::Extent;
use kquant_kernels::block;
use kquant_kernels::float8::{decode_e4m3, decode_e5m2};

use super::mxfp4::{self, Fp4};
use super::{Checkpoint, ReadError, TensorInfo};

/// Suffix of the tensors that hold the scales of 8-bit weights.
const SCALE_SUFFIX: &str = "_scale_inv";
/// Side of the square blocks that share a scale when the configuration does not say.
const DEFAULT_SCALE_BLOCK: u64 = 128;

/// Scales of one 8-bit tensor: one per block of `rows x columns` weights.
struct Scales {
    /// `[grid_rows][grid_columns]`
    values: Vec<f32>,
    grid_columns: u64,
    rows: u64,
    columns: u64,
}

/// One tensor that the model sees: its place in the file and, for 8-bit and 4-bit floats, its scales.
struct Entry {
    stored: usize,
    dtype: Dtype,
    scales: Option<Scales>,
    fp4: Option<Fp4>,
}

pub(super) struct SafeTensorsCheckpoint {
    file: SafeTensors,
    tensors: Vec<TensorInfo>,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl SafeTensorsCheckpoint {
    /// `scale_block` is the configuration's `weight_block_size` (`[rows, columns]`), if it has one.
    pub(super) fn new(file: SafeTensors, scale_block: Option<[u64; 2]>) -> Result<Self, ReadError> {
        let names: HashMap<&str, usize> =
            file.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let is_scale = |name: &str| {
            name.strip_suffix(SCALE_SUFFIX).is_some_and(|weight| names.contains_key(weight))
                || mxfp4::blocks_of(name).is_some_and(|blocks| names.contains_key(&*blocks))
        };
        let mut tensors = Vec::new();
        let mut entries = Vec::new();
        for (stored, t) in file.tensors().iter().enumerate().filter(|(_, t)| !is_scale(&t.name)) {
            if let Some(&scales) = mxfp4::scales_of(&t.name).and_then(|name| names.get(&*name)) {
                let (info, fp4) = Fp4::new(t, &file.tensors()[scales], scales)?;
                tensors.push(info);
                entries.push(Entry { stored, dtype: t.dtype, scales: None, fp4: Some(fp4) });
                continue;
            }
            let scale = names.get(format!("{}{SCALE_SUFFIX}", t.name).as_str());
            let scales = match scale {
                Some(&scale) => Some(read_scales(&file, stored, scale, scale_block)?),
                None => None,
            };
            tensors.push(TensorInfo {
                name: t.name.clone(),
                shape: t.shape.clone(),
                dtype: t.dtype.name(),
                block: if scales.is_some() { None } else { block::by_name(t.dtype.name()) },
                stored: match block::by_name(t.dtype.name()) {
                    Some(b) => (b.elements as u64, b.bytes as u64),
                    None => (1, t.dtype.bytes()),
                },
                shard: t.shard,
            });
            entries.push(Entry { stored, dtype: t.dtype, scales, fp4: None });
        }
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { file, tensors, entries, index })
    }
}

fn read_scales(
    file: &SafeTensors,
    weight: usize,
    scale: usize,
    scale_block: Option<[u64; 2]>,
) -> Result<Scales, ReadError> {
    let (w, s) = (&file.tensors()[weight], &file.tensors()[scale]);
    let decode = block::by_name(s.dtype.name()).map(|b| b.decode).ok_or_else(|| {
        ReadError(format!(
            "tensor `{}`: scales of type {} are not supported; F32, F16 or BF16 is",
            s.name,
            s.dtype.name()
        ))
    })?;
    let mut values = vec![0.0; s.shape.iter().product::<u64>() as usize];
    decode(&file.data(scale)?, &mut values);
    let shape_error = |expected: String| {
        ReadError(format!(
            "tensor `{}` {:?} does not fit `{}` {:?}: expected {expected}",
            s.name, s.shape, w.name, w.shape
        ))
    };
    let [rows, columns] = w.shape[..] else {
        return Err(shape_error("the weight to have two dimensions".into()));
    };
    if values.len() == 1 {
        return Ok(Scales { values, grid_columns: 1, rows: rows.max(1), columns: columns.max(1) });
    }
    // One scale per row, or one per square block.
    let (block_rows, block_columns) = match s.shape[..] {
        [r] | [r, 1] if r == rows => (1, columns.max(1)),
        _ => scale_block.map_or((DEFAULT_SCALE_BLOCK, DEFAULT_SCALE_BLOCK), |[r, c]| (r.max(1), c.max(1))),
    };
    let grid = [rows.div_ceil(block_rows), columns.div_ceil(block_columns)];
    if s.shape[..] != grid && s.shape[..] != grid[..1] {
        return Err(shape_error(format!("{grid:?} for blocks of {block_rows} x {block_columns}")));
    }
    Ok(Scales { values, grid_columns: grid[1], rows: block_rows, columns: block_columns })
}

impl Scales {
    /// Multiplies `out`, the weights from column `at.1` of row `at.0` on, by the scales of their blocks.
    fn apply(&self, at: (u64, u64), row_length: u64, out: &mut [f32]) {
        let (mut row, mut column) = at;
        for value in out {
            *value *= self.values[((row / self.rows) * self.grid_columns + column / self.columns) as usize];
            column += 1;
            if column == row_length {
                (row, column) = (row + 1, 0);
            }
        }
    }
}

impl SafeTensorsCheckpoint {
    /// The scales of `codes` bytes of 4-bit floats from column `at.1` of row `at.0` on.
    fn scale_codes(
        &self,
        fp4: &Fp4,
        info: &TensorInfo,
        at: (u64, u64),
        codes: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let mut scales = vec![0; codes / mxfp4::CODES];
        let first = (at.0 * info.columns() + at.1) / mxfp4::ELEMENTS;
        self.file.extent(fp4.scales)?.read_at(first, &mut scales)?;
        Ok(scales)
    }
}

impl Checkpoint for SafeTensorsCheckpoint {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn extent(&self, tensor: usize) -> Result<Extent<'_>, ReadError> {
        let entry = self.entries.get(tensor);
        let entry = entry.ok_or_else(|| ReadError(format!("there is no tensor number {tensor}")))?;
        Ok(self.file.extent(entry.stored)?)
    }

    fn decode(&self, tensor: usize, at: (u64, u64), bytes: &[u8], out: &mut [f32]) -> Result<(), ReadError> {
        let (info, entry) = (&self.tensors[tensor], &self.entries[tensor]);
        if let Some(fp4) = &entry.fp4 {
            return fp4.decode(bytes, &self.scale_codes(fp4, info, at, bytes.len())?, out);
        }
        let float8: Option<fn(u8) -> f32> = match entry.dtype {
            Dtype::F8E4M3 => Some(decode_e4m3),
            Dtype::F8E5M2 => Some(decode_e5m2),
            _ => None,
        };
        if let Some(decode) = float8 {
            out.iter_mut().zip(bytes).for_each(|(value, &code)| *value = decode(code));
        } else {
            let block = block::by_name(info.dtype).ok_or_else(|| {
                ReadError(format!("tensor `{}`: weights of type {} are not supported", info.name, info.dtype))
            })?;
            (block.decode)(bytes, out);
        }
        if let Some(scales) = &entry.scales {
            scales.apply(at, info.columns(), out);
        }
        Ok(())
    }

    fn to_blocks(
        &self,
        tensor: usize,
        at: (u64, u64),
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        match &self.entries[tensor].fp4 {
            Some(fp4) => {
                let scales = self.scale_codes(fp4, &self.tensors[tensor], at, bytes.len())?;
                fp4.blocks(bytes, &scales, out);
            }
            None => out.copy_from_slice(bytes),
        }
        Ok(())
    }
}
