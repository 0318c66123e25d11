//! `--override-kv`: metadata that the user sets, in the type that readers of the file expect.

use std::str::FromStr;

use kquant_formats::gguf::{Metadata, Value};

use super::known_keys::{Kind, known_keys};
use crate::recipe::nearest;

/// One `--override-kv KEY=TYPE:VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyOverride {
    /// The key.
    pub key: String,
    /// Its new value. It is stored in the type that the key has in the model or that llama.cpp reads; an integer of a key that
    /// neither knows is stored in 32 bits if it fits.
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

/// A value that its key cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--override-kv {argument}: {whose} is {wanted}, with which this does not fit; {advice}")]
pub struct OverrideTypeError {
    argument: String,
    whose: &'static str,
    wanted: &'static str,
    advice: String,
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
            "float" => match text.parse::<f32>() {
                Ok(value) if value.is_finite() => Value::F32(value),
                Ok(_) => return Err(error(format!("`{text}` is no number that 32 bits hold"))),
                Err(e) => return Err(error(format!("`{text}` is no number ({e})"))),
            },
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

/// The value as a whole number, where it is one.
fn whole(value: &Value) -> Option<i128> {
    match *value {
        Value::U32(v) => Some(v.into()),
        Value::I32(v) => Some(v.into()),
        Value::U64(v) => Some(v.into()),
        Value::I64(v) => Some(v.into()),
        // Exact: f32 has no fractions where its integers end.
        Value::F32(v) if v.fract() == 0.0 => Some(v as i128),
        _ => None,
    }
}

/// The value as a 32-bit float, where that is exact.
fn number(value: &Value) -> Option<f32> {
    match *value {
        Value::F32(v) => Some(v),
        _ => whole(value).map(|v| v as f32).filter(|&v| whole(value) == Some(v as i128)),
    }
}

/// The value as a 64-bit float, where that is exact.
fn double(value: &Value) -> Option<f64> {
    match *value {
        Value::F32(v) => Some(v.into()),
        _ => whole(value).map(|v| v as f64).filter(|&v| whole(value) == Some(v as i128)),
    }
}

/// The value as a truth value; 0 and 1 are ones.
fn truth(value: &Value) -> Option<bool> {
    match (value, whole(value)) {
        (Value::Bool(v), _) => Some(*v),
        (Value::F32(_), _) => None,
        (_, Some(v @ 0..=1)) => Some(v == 1),
        _ => None,
    }
}

/// `value` in the type of `like`, where it fits.
fn with_type_of(value: &Value, like: &Value) -> Option<Value> {
    let whole = whole(value);
    match like {
        Value::U8(_) => whole?.try_into().ok().map(Value::U8),
        Value::I8(_) => whole?.try_into().ok().map(Value::I8),
        Value::U16(_) => whole?.try_into().ok().map(Value::U16),
        Value::I16(_) => whole?.try_into().ok().map(Value::I16),
        Value::U32(_) => whole?.try_into().ok().map(Value::U32),
        Value::I32(_) => whole?.try_into().ok().map(Value::I32),
        Value::U64(_) => whole?.try_into().ok().map(Value::U64),
        Value::I64(_) => whole?.try_into().ok().map(Value::I64),
        Value::F32(_) => number(value).map(Value::F32),
        Value::F64(_) => double(value).map(Value::F64),
        Value::Bool(_) => truth(value).map(Value::Bool),
        Value::String(_) => value.as_str().map(Value::from),
        Value::Array(_) => None,
    }
}

/// A type in words, and how a value of it is given.
fn described(like: &Value) -> (&'static str, &'static str) {
    match like {
        Value::U8(_) => ("an unsigned integer of 8 bits", "int:"),
        Value::I8(_) => ("an integer of 8 bits", "int:"),
        Value::U16(_) => ("an unsigned integer of 16 bits", "int:"),
        Value::I16(_) => ("an integer of 16 bits", "int:"),
        Value::U32(_) => ("an unsigned integer of 32 bits", "int:"),
        Value::I32(_) => ("an integer of 32 bits", "int:"),
        Value::U64(_) => ("an unsigned integer of 64 bits", "int:"),
        Value::I64(_) => ("an integer of 64 bits", "int:"),
        Value::F32(_) => ("a number of 32 bits", "float:"),
        Value::F64(_) => ("a number of 64 bits", "float:"),
        Value::Bool(_) => ("true or false", "bool:"),
        Value::String(_) => ("a text", "str:"),
        Value::Array(_) => ("a list", ""),
    }
}

/// The value as it was given.
fn given(value: &Value) -> String {
    match value {
        Value::F32(v) => format!("float:{v}"),
        Value::Bool(v) => format!("bool:{v}"),
        Value::String(v) => format!("str:{v}"),
        other => format!("int:{}", whole(other).unwrap_or_default()),
    }
}

/// Sets what the user sets; returns notes on keys that the model did not have.
///
/// # Errors
/// When a value does not fit the type that its key has, or that llama.cpp wants.
pub(super) fn apply(
    metadata: &mut Metadata,
    overrides: &[KeyOverride],
) -> Result<Vec<String>, OverrideTypeError> {
    let architecture = metadata.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
    let known: Vec<(String, Kind)> = known_keys(architecture).collect();
    let mut notes = Vec::new();
    for over in overrides {
        let key = over.key.as_str();
        let kind = known.iter().find(|(name, _)| name == key).map(|&(_, kind)| kind);
        let value = match (metadata.get(key), kind) {
            (Some(present), _) => fitting(over, present, "its value in the model")?,
            (None, Some(kind)) => {
                notes.push(format!("--override-kv adds the key `{key}`, which the model does not have"));
                fitting(over, &example(kind), "the value that llama.cpp reads")?
            }
            (None, None) => {
                let names =
                    metadata.iter().map(|(name, _)| name).chain(known.iter().map(|(n, _)| n.as_str()));
                let meant = nearest(key, names).map(|name| format!("; did you mean `{name}`?"));
                notes.push(format!(
                    "--override-kv adds the key `{key}`, which neither the model nor llama.cpp knows{}",
                    meant.unwrap_or_default()
                ));
                over.value.clone()
            }
        };
        metadata.set(key, value);
    }
    Ok(notes)
}

/// A value of the type.
fn example(kind: Kind) -> Value {
    match kind {
        Kind::Integer => Value::U32(0),
        Kind::Number => Value::F32(0.0),
        Kind::Bool => Value::Bool(false),
        Kind::Text => Value::String(String::new()),
    }
}

/// The override's value in the type of `like`, which is that of `whose`.
fn fitting(over: &KeyOverride, like: &Value, whose: &'static str) -> Result<Value, OverrideTypeError> {
    with_type_of(&over.value, like).ok_or_else(|| {
        let (wanted, prefix) = described(like);
        let advice = match prefix {
            "" => "lists cannot be set".to_owned(),
            _ => format!("give {}={prefix}VALUE with such a value", over.key),
        };
        OverrideTypeError { argument: format!("{}={}", over.key, given(&over.value)), whose, wanted, advice }
    })
}

#[cfg(test)]
mod tests {
    use kquant_formats::gguf::Array;

    use super::*;

    fn parse(s: &str) -> Result<Value, KeyOverrideError> {
        s.parse::<KeyOverride>().map(|o| o.value)
    }

    #[test]
    fn overrides_are_typed() {
        assert_eq!(parse("a.b=int:7"), Ok(Value::U32(7)));
        assert_eq!(parse("a.b=int:-7"), Ok(Value::I32(-7)));
        assert_eq!(parse("a.b=float:0.5"), Ok(Value::F32(0.5)));
        assert_eq!(parse("a.b=bool:true"), Ok(Value::Bool(true)));
        assert_eq!(parse("a.b=str:x=y:z"), Ok(Value::String("x=y:z".into())));
        let bad = [
            "a",
            "a=1",
            "=int:1",
            "a=int:x",
            "a=bool:1",
            "a=float:",
            "a=u8:1",
            "a=float:1e39",
            "a=float:nan",
        ];
        for bad in bad {
            assert!(parse(bad).unwrap_err().to_string().contains("KEY=TYPE:VALUE"), "{bad}");
        }
    }

    /// One key of every type, and whether values of every type fit it.
    #[test]
    fn a_value_takes_its_key_s_type_or_is_refused() {
        let types = [
            Value::U8(1),
            Value::I8(1),
            Value::U16(1),
            Value::I16(1),
            Value::U32(1),
            Value::I32(1),
            Value::U64(1),
            Value::I64(1),
            Value::F32(1.0),
            Value::F64(1.0),
            Value::Bool(true),
            Value::from("1"),
            Value::Array(Array::U32(vec![1])),
        ];
        for like in &types {
            let fits = |s: &str| with_type_of(&parse(s).unwrap(), like);
            let integer = like.as_u64().is_some();
            let float = matches!(like, Value::F32(_) | Value::F64(_));
            let expected = match like {
                Value::String(_) | Value::Array(_) => None,
                other => Some(other.clone()),
            };
            assert_eq!(fits("k=int:1"), expected, "{like:?}");
            assert_eq!(fits("k=float:1.0"), expected.filter(|_| integer || float), "{like:?}");
            assert_eq!(fits("k=float:0.5").is_some(), float, "{like:?}");
            assert_eq!(fits("k=bool:true").is_some(), *like == Value::Bool(true), "{like:?}");
            assert_eq!(fits("k=str:1"), (*like == Value::from("1")).then(|| like.clone()), "{like:?}");
            let negative = matches!(like, Value::I8(_) | Value::I16(_) | Value::I32(_) | Value::I64(_));
            assert_eq!(fits("k=int:-1").is_some(), negative || float, "{like:?}");
            let wide = matches!(like, Value::U64(_) | Value::I64(_));
            assert_eq!(fits("k=int:4294967296").is_some(), wide || float, "{like:?}");
            // One more than a float can hold.
            let exact = matches!(like, Value::F64(_) | Value::U32(_) | Value::I32(_)) || wide;
            assert_eq!(fits("k=int:16777217").is_some(), exact, "{like:?}");
        }
    }

    fn applied(overrides: &[&str]) -> Result<(Metadata, Vec<String>), String> {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", Value::from("llama"));
        metadata.set("llama.rope.freq_base", Value::F32(10000.0));
        metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(vec!["a".into()])));
        metadata.set("x", Value::U64(1));
        let overrides: Vec<KeyOverride> = overrides.iter().map(|s| s.parse().unwrap()).collect();
        let notes = apply(&mut metadata, &overrides).map_err(|e| e.to_string())?;
        Ok((metadata, notes))
    }

    #[test]
    fn present_keys_keep_place_and_type_without_a_note() {
        let given = ["llama.rope.freq_base=int:500000", "tokenizer.ggml.add_bos_token=int:1", "x=int:9"];
        let (metadata, notes) = applied(&given).unwrap();
        assert!(notes.is_empty());
        assert_eq!(metadata.get("llama.rope.freq_base"), Some(&Value::F32(500_000.0)));
        assert_eq!(metadata.get("tokenizer.ggml.add_bos_token"), Some(&Value::Bool(true)));
        assert_eq!(metadata.get("x"), Some(&Value::U64(9)));
        assert_eq!(metadata.iter().position(|(key, _)| key == "x"), Some(4));
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        for (given, wanted) in [
            ("llama.rope.freq_base=str:a lot", "llama.rope.freq_base=float:VALUE"),
            ("tokenizer.ggml.add_bos_token=int:2", "true or false"),
            ("tokenizer.ggml.tokens=str:b", "lists cannot be set"),
            ("general.architecture=int:4", "general.architecture=str:VALUE"),
            ("x=int:-1", "an unsigned integer of 64 bits"),
            ("x=float:0.5", "x=int:VALUE"),
            ("llama.rope.scaling.factor=bool:true", "that llama.cpp reads is a number"),
        ] {
            let error = applied(&[given]).unwrap_err();
            assert!(error.contains(wanted) && error.contains(given), "{given}: {error}");
        }
    }

    #[test]
    fn new_keys_are_told_of() {
        let (metadata, notes) =
            applied(&["llama.rope.scaling.factor=int:4", "llama.rope.freqbase=float:2", "my.own.key=int:-3"])
                .unwrap();
        assert_eq!(metadata.get("llama.rope.scaling.factor"), Some(&Value::F32(4.0)));
        assert_eq!(metadata.get("llama.rope.freqbase"), Some(&Value::F32(2.0)));
        assert_eq!(metadata.get("my.own.key"), Some(&Value::I32(-3)));
        assert_eq!(notes.len(), 3);
        assert!(notes[0].contains("does not have") && !notes[0].contains("did you mean"), "{}", notes[0]);
        assert!(notes[1].contains("did you mean `llama.rope.freq_base`?"), "{}", notes[1]);
        assert!(!notes[2].contains("did you mean"), "{}", notes[2]);
    }
}
