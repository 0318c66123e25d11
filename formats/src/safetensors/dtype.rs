//! Element types of safetensors.

use ::safetensors::Dtype as Stored;

/// The way in which an element is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the definition.
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    F8E4M3Fnuz,
    F8E5M2Fnuz,
    C64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Dtype {
    /// Returns the name that a file's header uses, such as `BF16` or `F8_E4M3`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns the size of an element in bytes.
    pub fn bytes(self) -> u64 {
        self.row().1
    }

    /// Returns the type of plain numbers that weights are written in and that a file's header calls `name`.
    pub fn of_weights(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::BF16].into_iter().find(|dtype| dtype.name() == name)
    }

    fn row(self) -> (&'static str, u64) {
        match self {
            Self::F64 => ("F64", 8),
            Self::F32 => ("F32", 4),
            Self::F16 => ("F16", 2),
            Self::BF16 => ("BF16", 2),
            Self::F8E4M3 => ("F8_E4M3", 1),
            Self::F8E5M2 => ("F8_E5M2", 1),
            Self::F8E8M0 => ("F8_E8M0", 1),
            Self::F8E4M3Fnuz => ("F8_E4M3FNUZ", 1),
            Self::F8E5M2Fnuz => ("F8_E5M2FNUZ", 1),
            Self::C64 => ("C64", 8),
            Self::I64 => ("I64", 8),
            Self::I32 => ("I32", 4),
            Self::I16 => ("I16", 2),
            Self::I8 => ("I8", 1),
            Self::U64 => ("U64", 8),
            Self::U32 => ("U32", 4),
            Self::U16 => ("U16", 2),
            Self::U8 => ("U8", 1),
            Self::Bool => ("BOOL", 1),
        }
    }

    /// Converts the type of a header; `None` for types that pack several elements into a byte.
    pub(super) fn from_stored(stored: Stored) -> Option<Self> {
        Some(match stored {
            Stored::F64 => Self::F64,
            Stored::F32 => Self::F32,
            Stored::F16 => Self::F16,
            Stored::BF16 => Self::BF16,
            Stored::F8_E4M3 => Self::F8E4M3,
            Stored::F8_E5M2 => Self::F8E5M2,
            Stored::F8_E8M0 => Self::F8E8M0,
            Stored::F8_E4M3FNUZ => Self::F8E4M3Fnuz,
            Stored::F8_E5M2FNUZ => Self::F8E5M2Fnuz,
            Stored::C64 => Self::C64,
            Stored::I64 => Self::I64,
            Stored::I32 => Self::I32,
            Stored::I16 => Self::I16,
            Stored::I8 => Self::I8,
            Stored::U64 => Self::U64,
            Stored::U32 => Self::U32,
            Stored::U16 => Self::U16,
            Stored::U8 => Self::U8,
            Stored::BOOL => Self::Bool,
            _ => return None,
        })
    }
}
