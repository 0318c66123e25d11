//! Tensors of a file that together are one weight.

use std::collections::HashMap;

use kquant_formats::safetensors::{Dtype, SafeTensors, TensorInfo as Stored};
use kquant_kernels::block;

use super::super::mxfp4::{self, Fp4};
use super::super::{Gathered, ReadError, TensorInfo};
use super::config::{Quantization, Scheme};
use super::packed::{Groups, Packed};
use super::scales::Scales;
use crate::checkpoint::quantized::{autogptq, compressed};

/// Number of rows that are gathered at once if the file has inputs as rows: the words of 4 bytes in a page.
const ROWS_OF_A_PAGE: u64 = 1024;

/// The role of a tensor of the file.
pub(crate) enum Weight {
    /// The tensor is a part of another one, or of use for inference engines only.
    Part,
    /// The tensor is a weight that is not quantized.
    Plain,
    /// The tensor holds codes of a byte each, which have scales.
    Scaled(Scales),
    /// The tensor holds 4-bit floats in blocks.
    Fp4(TensorInfo, Fp4),
    /// The tensor holds codes, which have scales and zero points.
    Packed(TensorInfo, Box<Packed>),
}

/// Ends of the names of scales for activations and for the cache of keys and values, which have types of their own in
/// inference with GGUF.
const ACTIVATIONS: [&str; 11] = [
    ".input_scale",
    ".input_global_scale",
    ".input_zero_point",
    ".output_scale",
    ".output_zero_point",
    ".activation_scale",
    "_activation_scale",
    ".q_scale",
    ".k_scale",
    ".v_scale",
    ".input_scale_ub",
];

/// Ends of the names of parts, with the ends of the names of the weights that they belong to.
const BELONGING: [(&[&str], &[&str]); 2] = [
    (&[".qzeros", ".scales", ".g_idx"], &[".qweight"]),
    (
        &[
            ".weight_scale",
            ".weight_scale_2",
            ".weight_zero_point",
            ".weight_g_idx",
            ".weight_shape",
            ".weight_global_scale",
        ],
        &[".weight", ".weight_packed"],
    ),
];

/// The tensors of a file by name, with the quantization of the weights among them.
pub(crate) struct Parts<'a> {
    pub(super) file: &'a SafeTensors,
    names: HashMap<&'a str, usize>,
    quantization: Option<&'a Quantization>,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(file: &'a SafeTensors, quantization: Option<&'a Quantization>) -> Self {
        let names = file.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        // A refused quantization is ignored, so that tensors are listed as they are stored.
        Self { file, names, quantization: quantization.filter(|q| q.refusal.is_none()) }
    }

    /// Returns the role of tensor `number` of the file.
    ///
    /// # Errors
    /// Fails when a part is missing or does not fit.
    pub(crate) fn weight(&self, number: usize) -> Result<Weight, ReadError> {
        let t = self.tensor(number);
        if self.is_part(number) {
            return Ok(Weight::Part);
        }
        if let Some(scales) = mxfp4::scales_of(&t.name).and_then(|name| self.find(&name)) {
            let (info, fp4) = Fp4::new(t, self.tensor(scales), scales)?;
            return Ok(Weight::Fp4(info, fp4));
        }
        if let Some(scales) = self.find(&format!("{}_scale_inv", t.name)) {
            let block = self.quantization.and_then(|q| q.block);
            return Ok(Weight::Scaled(Scales::read(self, number, scales, block)?));
        }
        let Some(quantization) = self.quantization else { return Ok(Weight::Plain) };
        match &quantization.scheme {
            Scheme::Gptq { bits, group, add } => match t.name.strip_suffix(".qweight") {
                Some(base) => autogptq::gptq(self, base, number, *bits, *group, *add),
                None => Ok(Weight::Plain),
            },
            Scheme::Awq { group } => match t.name.strip_suffix(".qweight") {
                Some(base) => autogptq::awq(self, base, number, *group),
                None => Ok(Weight::Plain),
            },
            Scheme::Compressed { bits } => compressed::weight(self, number, bits, quantization.block),
            Scheme::Plain => compressed::weight(self, number, &[], quantization.block),
        }
    }

    fn is_part(&self, number: usize) -> bool {
        let name = self.tensor(number).name.as_str();
        let of_8_bits = name.strip_suffix("_scale_inv").is_some_and(|weight| self.find(weight).is_some());
        let of_4_bits = mxfp4::blocks_of(name).is_some_and(|blocks| self.find(&blocks).is_some());
        if of_8_bits || of_4_bits {
            return true;
        }
        if self.quantization.is_none() {
            return false;
        }
        let belongs = BELONGING.iter().any(|(parts, weights)| {
            let base = parts.iter().find_map(|end| name.strip_suffix(end));
            base.is_some_and(|base| weights.iter().any(|end| self.find(&format!("{base}{end}")).is_some()))
        });
        belongs || ACTIVATIONS.iter().any(|end| name.ends_with(end)) || self.is_empty_bias(number)
    }

    /// Returns true if tensor `number` is a bias of zeros: the first programs of GPTQ gave every linear layer a bias,
    /// even in models that have none.
    fn is_empty_bias(&self, number: usize) -> bool {
        let base = self.tensor(number).name.strip_suffix(".bias");
        base.is_some_and(|base| self.find(&format!("{base}.qweight")).is_some())
            && self.file.data(number).is_ok_and(|data| data.iter().all(|&byte| byte == 0))
    }

    pub(super) fn tensor(&self, number: usize) -> &'a Stored {
        &self.file.tensors()[number]
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Returns the index of the tensor called `name`, which belongs to tensor `number`.
    pub(super) fn need(&self, number: usize, name: &str) -> Result<usize, ReadError> {
        self.find(name).ok_or_else(|| {
            self.fault(
                number,
                format!("there is no `{name}`, which belongs to it; download the checkpoint again"),
            )
        })
    }

    /// Returns the error for tensor `number`.
    pub(super) fn fault(&self, number: usize, what: String) -> ReadError {
        let t = self.tensor(number);
        let file =
            self.file.files().get(t.shard).map_or_else(String::new, |f| f.path().display().to_string());
        ReadError(format!("{file}: tensor `{}` {:?} ({}): {what}", t.name, t.shape, t.dtype.name()))
    }

    /// Checks type and shape of tensor `number`.
    pub(super) fn expect(&self, number: usize, dtypes: &[Dtype], shape: &[u64]) -> Result<(), ReadError> {
        let t = self.tensor(number);
        if dtypes.contains(&t.dtype) && t.shape == shape {
            return Ok(());
        }
        let names: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
        Err(self.fault(number, format!("expected {shape:?} ({})", names.join(" or "))))
    }

    /// Returns the whole numbers of tensor `number`, which has few.
    pub(super) fn integers(&self, number: usize) -> Result<Vec<i64>, ReadError> {
        let (t, data) = (self.tensor(number), self.file.data(number)?);
        let wide = |bytes: &[u8]| bytes.try_into().map(i64::from_le_bytes).unwrap_or_default();
        let narrow = |bytes: &[u8]| bytes.try_into().map(i32::from_le_bytes).unwrap_or_default();
        match t.dtype {
            Dtype::I64 => Ok(data.chunks_exact(8).map(wide).collect()),
            Dtype::I32 => Ok(data.chunks_exact(4).map(|bytes| narrow(bytes).into()).collect()),
            _ => Err(self.fault(number, "expected whole numbers (I32 or I64)".into())),
        }
    }

    /// Returns the groups of `columns` columns: those that tensor `list` gives, or else `count` even ones.
    ///
    /// `number` is the tensor with a scale for each group.
    pub(super) fn groups(
        &self,
        number: usize,
        columns: u64,
        count: u64,
        list: Option<usize>,
    ) -> Result<Groups, ReadError> {
        let even = columns.checked_div(count).filter(|size| size * count == columns && *size > 0);
        let Some(list) = list else {
            let what = || format!("{columns} columns are no whole number of {count} groups");
            return even.map(Groups::Even).ok_or_else(|| self.fault(number, what()));
        };
        self.expect(list, &[Dtype::I32, Dtype::I64], &[columns])?;
        let groups = self.integers(list)?;
        if let Some(at) = groups.iter().position(|&group| u64::try_from(group).map_or(true, |g| g >= count)) {
            let what = format!("column {at} is of group {}, but there are {count}", groups[at]);
            return Err(self.fault(list, what));
        }
        let groups: Vec<u32> = groups.iter().map(|&group| group as u32).collect();
        // The list, which is as long as a row, is kept only if the groups are not even.
        let told = |size: u64| {
            groups.iter().zip(0..).all(|(&group, column): (_, u64)| u64::from(group) == column / size)
        };
        Ok(match even.filter(|&size| told(size)) {
            Some(size) => Groups::Even(size),
            None => Groups::Listed(groups),
        })
    }

    /// Returns the weight called `name` of `rows` rows that `packed` describes.
    pub(super) fn packed(
        &self,
        name: String,
        rows: u64,
        packed: Packed,
        (dtype, scales): (&'static str, usize),
    ) -> Result<Weight, ReadError> {
        let number = packed.codes.stored;
        if let Some(other) = self.find(&name).filter(|&other| other != number) {
            return Err(self.fault(other, "the same weight is there in codes, too".into()));
        }
        // Products of scales and small integers have more bits than BF16.
        let half = self.tensor(scales).dtype == Dtype::F16;
        let plain = block::by_name(if half { "F16" } else { "BF16" });
        let together = if packed.inputs_first { ROWS_OF_A_PAGE } else { 1 };
        let info = TensorInfo {
            name,
            shape: vec![rows, packed.columns],
            dtype,
            block: None,
            stored: (packed.columns, packed.row_bytes()),
            gathered: Some(Gathered { together, plain }),
            shard: self.tensor(number).shard,
        };
        Ok(Weight::Packed(info, Box::new(packed)))
    }
}

/// Returns the name of the type of codes of `bits` bits.
pub(super) fn integer_name(bits: u64) -> &'static str {
    const NAMES: [&str; 8] = ["INT1", "INT2", "INT3", "INT4", "INT5", "INT6", "INT7", "INT8"];
    NAMES.get((bits as usize).wrapping_sub(1)).copied().unwrap_or("INT")
}
