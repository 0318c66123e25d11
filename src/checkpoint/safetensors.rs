//! Safetensors checkpoints, single or sharded, whose weights are decoded if they are quantized.

use std::collections::HashMap;
use std::ops::Range;

use kquant_formats::safetensors::{Dtype, SafeTensors, TensorInfo as Stored};
use kquant_formats::source::Extent;
use kquant_kernels::block;

use super::mxfp4::{self, Fp4};
use super::quantized::{E4M3, E5M2, Levels, Packed, Parts, Quantization, SIGNED, Scales, Weight};
use super::{Checkpoint, ReadError, TensorInfo};

/// A tensor that the model sees: its place in the file and the coding of its weights.
struct Entry {
    stored: usize,
    coding: Coding,
}

/// The coding of a tensor's weights.
enum Coding {
    /// Weights are stored as numbers, possibly with scales.
    Plain(Option<Scales>),
    /// Weights have codes of a byte each, possibly with scales.
    Bytes(&'static Levels, Option<Scales>),
    /// Weights are 4-bit floats in blocks.
    Fp4(Fp4),
    /// Weights have packed codes with scales and zero points.
    Packed(Box<Packed>),
}

pub(super) struct SafeTensorsCheckpoint {
    file: SafeTensors,
    tensors: Vec<TensorInfo>,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl SafeTensorsCheckpoint {
    /// Creates a checkpoint of the tensors of `file`, with weights quantized as `quantization` says.
    pub(super) fn new(file: SafeTensors, quantization: Option<&Quantization>) -> Result<Self, ReadError> {
        let parts = Parts::new(&file, quantization);
        let (mut tensors, mut entries) = (Vec::new(), Vec::new());
        for (stored, t) in file.tensors().iter().enumerate() {
            let (info, coding) = match parts.weight(stored)? {
                Weight::Part => continue,
                Weight::Plain => (same(t, false), coding(t.dtype, None)),
                Weight::Scaled(scales) => (same(t, true), coding(t.dtype, Some(scales))),
                Weight::Fp4(info, fp4) => (info, Coding::Fp4(fp4)),
                Weight::Packed(info, packed) => (info, Coding::Packed(packed)),
            };
            tensors.push(info);
            entries.push(Entry { stored, coding });
        }
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { file, tensors, entries, index })
    }
}

/// Returns the coding of weights of type `dtype` with `scales`.
fn coding(dtype: Dtype, scales: Option<Scales>) -> Coding {
    match dtype {
        Dtype::F8E4M3 => Coding::Bytes(&E4M3, scales),
        Dtype::F8E5M2 => Coding::Bytes(&E5M2, scales),
        Dtype::I8 if scales.is_some() => Coding::Bytes(&SIGNED, scales),
        _ => Coding::Plain(scales),
    }
}

/// Describes a tensor as the file stores it.
fn same(t: &Stored, scaled: bool) -> TensorInfo {
    let block = block::by_name(t.dtype.name());
    TensorInfo {
        name: t.name.clone(),
        shape: t.shape.clone(),
        dtype: t.dtype.name(),
        block: block.filter(|_| !scaled),
        stored: block.map_or((1, t.dtype.bytes()), |b| (b.elements as u64, b.bytes as u64)),
        gathered: None,
        shard: t.shard,
    }
}

impl SafeTensorsCheckpoint {
    /// Returns the scales of `codes` bytes of 4-bit floats from column `at.1` of row `at.0` on.
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
        let info = &self.tensors[tensor];
        let scales = match &self.entries[tensor].coding {
            Coding::Fp4(fp4) => {
                return fp4.decode(bytes, &self.scale_codes(fp4, info, at, bytes.len())?, out);
            }
            Coding::Packed(packed) => {
                packed.decode(bytes, out);
                return Ok(());
            }
            Coding::Bytes(levels, scales) => {
                out.iter_mut().zip(bytes).for_each(|(value, &code)| *value = levels[usize::from(code)]);
                scales
            }
            Coding::Plain(scales) => {
                let block = block::by_name(info.dtype).ok_or_else(|| {
                    let (name, dtype) = (&info.name, info.dtype);
                    ReadError(format!("tensor `{name}`: weights of type {dtype} are not supported"))
                })?;
                (block.decode)(bytes, out);
                scales
            }
        };
        if let Some(scales) = scales {
            scales.apply(at, info.columns(), out);
        }
        Ok(())
    }

    fn gather(&self, tensor: usize, rows: Range<u64>, out: &mut [u8]) -> Result<(), ReadError> {
        match &self.entries[tensor].coding {
            Coding::Packed(packed) => packed.gather(&self.file, rows, out),
            _ => Err(ReadError(format!("rows of tensor number {tensor} are not gathered"))),
        }
    }

    fn to_blocks(
        &self,
        tensor: usize,
        at: (u64, u64),
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        match &self.entries[tensor].coding {
            Coding::Fp4(fp4) => {
                let scales = self.scale_codes(fp4, &self.tensors[tensor], at, bytes.len())?;
                fp4.blocks(bytes, &scales, out);
            }
            _ => out.copy_from_slice(bytes),
        }
        Ok(())
    }
}
