//! The table of value types: code in the file, name, reading and writing. A new type is a row here and a variant of
//! [`Value`].

use std::fmt::Display;

use super::value::{Array, Value};
use crate::cursor::{Cursor, Number};
use crate::error::{DAMAGED, Result};

const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

// ggml's reader has the same two limits.
const MAX_STRING: u64 = 1 << 30;
const MAX_ELEMENTS: u64 = 1 << 30;

macro_rules! number_types {
    ($($variant:ident = $code:literal $name:literal,)*) => {
        impl Value {
            /// Returns ggml's name of the value's type, such as `u32`, `str` or `arr`.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Value::$variant(_) => $name,)*
                    Value::Bool(_) => "bool",
                    Value::String(_) => "str",
                    Value::Array(_) => "arr",
                }
            }

            fn code(&self) -> u32 {
                match self {
                    $(Value::$variant(_) => $code,)*
                    Value::Bool(_) => BOOL,
                    Value::String(_) => STRING,
                    Value::Array(_) => ARRAY,
                }
            }
        }

        impl Array {
            /// Returns ggml's name of the elements' type, such as `u32` or `str`.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Array::$variant(_) => $name,)*
                    Array::Bool(_) => "bool",
                    Array::String(_) => "str",
                }
            }

            /// Returns the number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Array::$variant(v) => v.len(),)*
                    Array::Bool(v) => v.len(),
                    Array::String(v) => v.len(),
                }
            }

            /// Returns whether there are no elements.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Returns the elements number `places`, in their order; numbers past the end are left out.
            pub fn picked(&self, places: &[u32]) -> Self {
                fn some<T: Clone>(all: &[T], places: &[u32]) -> Vec<T> {
                    places.iter().filter_map(|&at| all.get(at as usize).cloned()).collect()
                }
                match self {
                    $(Array::$variant(v) => Array::$variant(some(v, places)),)*
                    Array::Bool(v) => Array::Bool(some(v, places)),
                    Array::String(v) => Array::String(some(v, places)),
                }
            }

            fn code(&self) -> u32 {
                match self {
                    $(Array::$variant(_) => $code,)*
                    Array::Bool(_) => BOOL,
                    Array::String(_) => STRING,
                }
            }
        }

        /// Reads a type code and the value that follows it.
        pub(super) fn read_value(c: &mut Cursor, label: &dyn Display) -> Result<Value> {
            let at = c.clone();
            Ok(match c.number::<u32>(&format_args!("the type of {label}"))? {
                $($code => Value::$variant(c.number(label)?),)*
                BOOL => Value::Bool(read_bool(c, label)?),
                STRING => Value::String(read_string(c, label)?.to_owned()),
                ARRAY => Value::Array(read_array(c, label)?),
                code => return Err(at.malformed(format!("{label} has unknown value type {code}"), DAMAGED)),
            })
        }

        fn read_array(c: &mut Cursor, label: &dyn Display) -> Result<Array> {
            let at = c.clone();
            let code: u32 = c.number(&format_args!("the element type of {label}"))?;
            let count: u64 = c.number(&format_args!("the element count of {label}"))?;
            if count > MAX_ELEMENTS {
                let what = format!("{label} is an array of {count} elements; the most is {MAX_ELEMENTS}");
                return Err(at.limit(what, DAMAGED));
            }
            Ok(match code {
                $($code => Array::$variant(c.numbers(count, label)?),)*
                BOOL => {
                    let bytes = c.clone().take(count, label)?;
                    Array::Bool(bytes.iter().map(|_| read_bool(c, label)).collect::<Result<_>>()?)
                }
                STRING => {
                    // Each string takes at least its length field, so that absurd counts are refused before anything is
                    // read.
                    c.clone().take(count.saturating_mul(8), label)?;
                    Array::String((0..count).map(|_| Ok(read_string(c, label)?.to_owned())).collect::<Result<_>>()?)
                }
                ARRAY => {
                    let what = format!("{label} is an array of arrays, which GGUF readers do not take");
                    return Err(at.malformed(what, "remove the key from the file"));
                }
                code => {
                    return Err(at.malformed(format!("{label} has unknown element type {code}"), DAMAGED));
                }
            })
        }

        /// Appends the type code of `value` and its content.
        pub(super) fn write_value(out: &mut Vec<u8>, value: &Value) {
            value.code().append_to(out);
            match value {
                $(Value::$variant(v) => v.append_to(out),)*
                Value::Bool(v) => out.push((*v).into()),
                Value::String(v) => write_string(out, v),
                Value::Array(v) => write_array(out, v),
            }
        }

        fn write_array(out: &mut Vec<u8>, array: &Array) {
            array.code().append_to(out);
            (array.len() as u64).append_to(out);
            match array {
                $(Array::$variant(v) => v.iter().for_each(|v| v.append_to(out)),)*
                Array::Bool(v) => out.extend(v.iter().map(|v| u8::from(*v))),
                Array::String(v) => v.iter().for_each(|v| write_string(out, v)),
            }
        }
    };
}

number_types! {
    U8 = 0 "u8",
    I8 = 1 "i8",
    U16 = 2 "u16",
    I16 = 3 "i16",
    U32 = 4 "u32",
    I32 = 5 "i32",
    F32 = 6 "f32",
    U64 = 10 "u64",
    I64 = 11 "i64",
    F64 = 12 "f64",
}

/// Reads a length and as many bytes of text.
pub(super) fn read_string<'a>(c: &mut Cursor<'a>, label: &dyn Display) -> Result<&'a str> {
    let at = c.clone();
    let length: u64 = c.number(&format_args!("the length of {label}"))?;
    if length > MAX_STRING {
        return Err(at.limit(format!("{label} is {length} bytes of text; the most is {MAX_STRING}"), DAMAGED));
    }
    c.text(length, label)
}

/// Appends the length of `text` and its bytes.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    (text.len() as u64).append_to(out);
    out.extend_from_slice(text.as_bytes());
}

fn read_bool(c: &mut Cursor, label: &dyn Display) -> Result<bool> {
    let at = c.clone();
    match c.number::<u8>(label)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(at.malformed(format!("{label} is a boolean of value {other}, not 0 or 1"), DAMAGED)),
    }
}
