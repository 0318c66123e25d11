//! The facts about a model that mixtures depend on.

use crate::tensor::TensorName;
use kquant_formats::gguf::{Array, Metadata, Value};

/// The facts about a model that a recipe needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// Value of `general.architecture`, which need not be known to kquant.
    pub arch: String,
    /// Number of layers.
    pub layers: u32,
    /// Query heads of the first layer; 0 if unknown.
    pub heads: u32,
    /// Key and value heads of the first layer; 0 if unknown or if the layer has no attention.
    pub heads_kv: u32,
    /// Number of experts; 0 for a dense model.
    pub experts: u32,
    /// True if an importance matrix is given.
    pub has_importance: bool,
}

/// Architectures with a model of Llama 2 70B's size class: name, number of layers, and whether heads must share values.
const SEVENTY_B: &[(&str, u32, bool)] = &[
    ("llama", 80, true),
    ("llama-embed", 80, true),
    ("qwen2", 80, false),
    ("deci", 80, false),
    ("olmo", 80, false),
    ("jais2", 68, false),
];

impl ModelFacts {
    /// Reads the facts from GGUF keys and tensor names.
    ///
    /// No key is required: layers are counted from the names `blk.N.` if need be, and without head counts no heads share
    /// values. Where a key has one value per layer, the first one counts, as in llama.cpp's rules.
    pub fn from_metadata(metadata: &Metadata, names: &[&str], has_importance: bool) -> Self {
        let arch = metadata.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| metadata.get(&format!("{arch}.{key}")).and_then(first_number);
        let heads = number("attention.head_count").unwrap_or(0);
        Self {
            arch: arch.to_owned(),
            layers: number("block_count").unwrap_or_else(|| count_layers(names)),
            heads,
            heads_kv: number("attention.head_count_kv").unwrap_or(heads),
            experts: number("expert_count").unwrap_or(0),
            has_importance,
        }
    }

    /// Returns the number of query heads that share a value head; 0 if unknown.
    pub(super) fn heads_per_value(&self) -> u32 {
        self.heads.checked_div(self.heads_kv).unwrap_or(0)
    }

    /// Returns whether the model is of Llama 2 70B's size class.
    pub(super) fn is_seventy_b(&self) -> bool {
        let shares = self.heads != self.heads_kv;
        let listed = |&(arch, layers, sharing): &(&str, u32, bool)| {
            self.arch == arch && self.layers == layers && (shares || !sharing)
        };
        SEVENTY_B.iter().any(listed)
    }
}

/// Returns one more than the highest N in names `blk.N.`; 0 if there are none.
fn count_layers(names: &[&str]) -> u32 {
    names.iter().filter_map(|name| TensorName(name).layer()).max().map_or(0, |last| last.saturating_add(1))
}

/// Returns `value` as an integer, or the first integer of an array.
fn first_number(value: &Value) -> Option<u32> {
    let wide = match value {
        Value::Array(Array::U32(all)) => all.first().copied().map(u64::from),
        Value::Array(Array::I32(all)) => all.first().and_then(|&n| u64::try_from(n).ok()),
        Value::Array(Array::U64(all)) => all.first().copied(),
        Value::Array(Array::I64(all)) => all.first().and_then(|&n| u64::try_from(n).ok()),
        other => other.as_u64(),
    };
    wide.and_then(|n| u32::try_from(n).ok())
}
