//! The output's metadata: the input's, brought up to date, and what the user overrides.

use std::str::FromStr;

use kquant_formats::gguf::{Metadata, Value, split};
use kquant_formats::imatrix::Imatrix;

/// Version of the block types' layouts, `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

/// One `--override-kv KEY=TYPE:VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyOverride {
    /// The key.
    pub key: String,
    /// Its new value. An integer is stored in the width that the key has already, else as 32 bits.
    pub value: Value,
}

/// Why an override could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{argument}`: {what}. Expected KEY=TYPE:VALUE with TYPE int, float, bool or str, e.g. llama.context_length=int:4096"
)]
pub struct KeyOverrideError {
    argument: String,
    what: String,
}

impl FromStr for KeyOverride {
    type Err = KeyOverrideError;

    fn from_str(argument: &str) -> Result<Self, Self::Err> {
        let error = |what: String| KeyOverrideError { argument: argument.to_owned(), what };
        let (key, typed) = argument.split_once('=').ok_or_else(|| error("no `=`".into()))?;
        let (kind, text) = typed.split_once(':').ok_or_else(|| error("no `:` after the type".into()))?;
        if key.is_empty() {
            return Err(error("the key is empty".into()));
        }
        let value = match kind {
            "int" => integer(text.parse().map_err(|e| error(format!("`{text}` is no integer ({e})")))?),
            "float" => Value::F32(text.parse().map_err(|e| error(format!("`{text}` is no number ({e})")))?),
            "bool" => {
                Value::Bool(text.parse().map_err(|_| error(format!("`{text}` is neither true nor false")))?)
            }
            "str" => Value::String(text.to_owned()),
            other => return Err(error(format!("unknown type `{other}`"))),
        };
        Ok(Self { key: key.to_owned(), value })
    }
}

/// The narrowest of u32, i32, u64, i64 that llama.cpp expects for hyper-parameters of this size.
fn integer(value: i64) -> Value {
    if let Ok(v) = u32::try_from(value) {
        Value::U32(v)
    } else if let Ok(v) = i32::try_from(value) {
        Value::I32(v)
    } else if let Ok(v) = u64::try_from(value) {
        Value::U64(v)
    } else {
        Value::I64(value)
    }
}

/// `value` in the integer type of `like`, where it fits.
fn with_width_of(value: Value, like: Option<&Value>) -> Value {
    let wide: i128 = match value {
        Value::U32(v) => v.into(),
        Value::I32(v) => v.into(),
        Value::U64(v) => v.into(),
        Value::I64(v) => v.into(),
        _ => return value,
    };
    let narrowed = match like {
        Some(Value::U8(_)) => wide.try_into().ok().map(Value::U8),
        Some(Value::I8(_)) => wide.try_into().ok().map(Value::I8),
        Some(Value::U16(_)) => wide.try_into().ok().map(Value::U16),
        Some(Value::I16(_)) => wide.try_into().ok().map(Value::I16),
        Some(Value::I32(_)) => wide.try_into().ok().map(Value::I32),
        Some(Value::U64(_)) => wide.try_into().ok().map(Value::U64),
        Some(Value::I64(_)) => wide.try_into().ok().map(Value::I64),
        _ => None,
    };
    narrowed.unwrap_or(value)
}

/// The metadata of the (first) output file: llama-quantize's order, so that equal choices give equal headers.
pub(super) fn output_metadata(
    input: &Metadata,
    file_type: Option<u32>,
    importance: Option<(&str, &Imatrix)>,
) -> Metadata {
    let mut metadata = input.clone();
    for key in [split::NO, split::COUNT, split::TENSORS] {
        metadata.remove(key);
    }
    let mut append = |key: &str, value: Value| {
        metadata.remove(key);
        metadata.set(key, value);
    };
    append("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    if let Some(id) = file_type {
        append("general.file_type", Value::U32(id));
    }
    if let Some((file, imatrix)) = importance {
        append("quantize.imatrix.file", file.into());
        if let Some(dataset) = imatrix.datasets.first() {
            append("quantize.imatrix.dataset", dataset.as_str().into());
        }
        append("quantize.imatrix.entries_count", Value::U32(imatrix.entries.len() as u32));
        if let Some(chunks) = imatrix.chunk_count {
            append("quantize.imatrix.chunks_count", Value::U32(chunks));
        }
    }
    metadata
}

/// Sets what the user sets.
pub(super) fn apply_overrides(metadata: &mut Metadata, overrides: &[KeyOverride]) {
    for over in overrides {
        let value = with_width_of(over.value.clone(), metadata.get(&over.key));
        metadata.set(over.key.as_str(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_typed() {
        let parse = |s: &str| s.parse::<KeyOverride>().map(|o| o.value);
        assert_eq!(parse("a.b=int:7"), Ok(Value::U32(7)));
        assert_eq!(parse("a.b=int:-7"), Ok(Value::I32(-7)));
        assert_eq!(parse("a.b=float:0.5"), Ok(Value::F32(0.5)));
        assert_eq!(parse("a.b=bool:true"), Ok(Value::Bool(true)));
        assert_eq!(parse("a.b=str:x=y:z"), Ok(Value::String("x=y:z".into())));
        for bad in ["a", "a=1", "=int:1", "a=int:x", "a=bool:1", "a=float:", "a=u8:1"] {
            assert!(parse(bad).unwrap_err().to_string().contains("KEY=TYPE:VALUE"), "{bad}");
        }
    }

    #[test]
    fn an_override_keeps_its_key_s_place_and_width() {
        let mut input = Metadata::new();
        input.set("split.count", Value::U16(3));
        input.set("general.file_type", Value::U32(1));
        input.set("x", Value::U64(1));
        input.set("y", Value::from("last"));
        let overrides = ["x=int:9".parse().unwrap(), "z=int:1".parse().unwrap()];
        let mut output = output_metadata(&input, Some(15), None);
        apply_overrides(&mut output, &overrides);
        let keys: Vec<_> = output.iter().map(|(k, v)| (k, v.as_u64())).collect();
        assert_eq!(
            keys,
            [
                ("x", Some(9)),
                ("y", None),
                ("general.quantization_version", Some(2)),
                ("general.file_type", Some(15)),
                ("z", Some(1))
            ]
        );
        assert_eq!(output.get("x"), Some(&Value::U64(9)));
    }
}
