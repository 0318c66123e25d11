//! Weights in packed codes with scales for groups of columns: `(code - zero) * scale`.
//!
//! A row is gathered from the file into one run of bytes that is complete in itself: a byte for each code, then the
//! scales of its groups and, if they are stored, the zero points, in f32. So rows can be decoded one by one, wherever
//! they were.

use std::ops::Range;
use std::sync::LazyLock;

use kquant_formats::safetensors::{Dtype, SafeTensors};
use kquant_kernels::block;
use kquant_kernels::float8::{decode_e4m3, decode_e5m2};

use super::super::ReadError;
use super::codes::{Codes, read_lines};

/// The value of each code.
pub(crate) type Levels = [f32; 256];

/// Values of unsigned codes.
pub(super) static UNSIGNED: LazyLock<Levels> = LazyLock::new(|| std::array::from_fn(|code| code as f32));
/// Values of codes in two's complement.
pub(crate) static SIGNED: LazyLock<Levels> =
    LazyLock::new(|| std::array::from_fn(|code| f32::from(code as u8 as i8)));
/// Values of 4-bit floats.
pub(super) static E2M1: LazyLock<Levels> = LazyLock::new(|| {
    const MAGNITUDES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    std::array::from_fn(|code| MAGNITUDES[code % 8] * if code & 8 == 0 { 1.0 } else { -1.0 })
});
/// Values of 8-bit floats with a mantissa of 3 bits.
pub(crate) static E4M3: LazyLock<Levels> =
    LazyLock::new(|| std::array::from_fn(|code| decode_e4m3(code as u8)));
/// Values of 8-bit floats with a mantissa of 2 bits and a larger range.
pub(crate) static E5M2: LazyLock<Levels> =
    LazyLock::new(|| std::array::from_fn(|code| decode_e5m2(code as u8)));
/// Values of the powers of two in E8M0.
static E8M0: LazyLock<Levels> = LazyLock::new(|| {
    std::array::from_fn(|code| if code == 255 { f32::NAN } else { 2f32.powi(code as i32 - 127) })
});

/// A matrix of numbers `[rows][columns]`.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    stored: usize,
    rows: u64,
    columns: u64,
    dtype: Dtype,
    /// Number that each is divided by, if there is one.
    divisor: Option<f32>,
    /// Number that each is multiplied by, if there is one.
    factor: Option<f32>,
}

impl Numbers {
    /// Creates a matrix of `columns` columns from tensor `stored` of `file`; `None` if its type is not one that scales
    /// have.
    pub(super) fn new(file: &SafeTensors, stored: usize, columns: u64) -> Option<Self> {
        let t = &file.tensors()[stored];
        let known = block::by_name(t.dtype.name()).is_some()
            || matches!(t.dtype, Dtype::F8E4M3 | Dtype::F8E8M0 | Dtype::U8);
        let rows = t.shape.iter().product::<u64>() / columns.max(1);
        known.then_some(Self { stored, rows, columns, dtype: t.dtype, divisor: None, factor: None })
    }

    pub(super) fn divided_by(self, divisor: f32) -> Self {
        Self { divisor: Some(divisor), ..self }
    }

    pub(super) fn times(self, factor: f32) -> Self {
        Self { factor: Some(factor), ..self }
    }

    /// Calls `put(row, column, number)` for rows `rows` and columns `columns`, with row and column counted from the start
    /// of these ranges.
    fn read(
        &self,
        file: &SafeTensors,
        rows: Range<u64>,
        columns: Range<u64>,
        mut put: impl FnMut(usize, usize, f32),
    ) -> Result<(), ReadError> {
        let size = self.dtype.bytes();
        let part = columns.start * size..columns.end * size;
        let mut values = vec![0.0; (columns.end - columns.start) as usize];
        read_lines(&file.extent(self.stored)?, self.columns * size, rows.clone(), part, |row, bytes| {
            decode(self.dtype, bytes, &mut values);
            for (column, &value) in values.iter().enumerate() {
                let value = self.divisor.map_or(value, |divisor| value / divisor);
                let value = self.factor.map_or(value, |factor| value * factor);
                put((row - rows.start) as usize, column, value);
            }
        })
    }

    /// Returns all numbers.
    pub(super) fn all(&self, file: &SafeTensors) -> Result<Vec<f32>, ReadError> {
        let mut values = Vec::new();
        self.read(file, 0..self.rows, 0..self.columns, |_, _, value| values.push(value))?;
        Ok(values)
    }
}

/// Decodes numbers of a type that [`Numbers::new`] takes.
fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    let levels = match dtype {
        Dtype::F8E4M3 => &E4M3,
        Dtype::F8E8M0 | Dtype::U8 => &E8M0,
        _ => {
            if let Some(block) = block::by_name(dtype.name()) {
                (block.decode)(bytes, out);
            }
            return;
        }
    };
    out.iter_mut().zip(bytes).for_each(|(value, &code)| *value = levels[usize::from(code)]);
}

/// The scales of a weight.
#[derive(Debug, Clone)]
pub(super) enum Scales {
    /// One scale holds for all weights.
    One(f32),
    /// Each row and group has a scale.
    Each(Numbers),
}

/// The zero points, which are subtracted from codes.
#[derive(Debug, Clone)]
pub(super) enum Zeros {
    /// One zero point holds for all weights.
    Fixed(f32),
    /// Each row and group has a code, whose level plus `add` is the zero point.
    Each { codes: Codes, levels: &'static LazyLock<Levels>, add: f32 },
}

/// The group that each column belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Groups {
    /// Each group has so many columns.
    Even(u64),
    /// The list has the group of each column.
    Listed(Vec<u32>),
}

/// A weight `[rows][columns]` in codes.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(super) codes: Codes,
    pub(super) levels: &'static LazyLock<Levels>,
    pub(super) scales: Scales,
    pub(super) zeros: Zeros,
    pub(super) groups: Groups,
    /// Number of groups of a row.
    pub(super) group_count: u64,
    /// True if the file has inputs as rows: codes `[columns][rows]`, scales and zeros `[groups][rows]`.
    pub(super) inputs_first: bool,
    pub(super) columns: u64,
}

/// Number of bytes of a scale or zero point in a gathered row.
const NUMBER: u64 = 4;

impl Packed {
    /// Returns the number of bytes of a gathered row.
    pub(super) fn row_bytes(&self) -> u64 {
        let tables = match self.zeros {
            Zeros::Fixed(_) => 1,
            Zeros::Each { .. } => 2,
        };
        self.columns + tables * self.group_count * NUMBER
    }

    /// Gathers rows `rows` into `out` (`[rows.len()][row_bytes]`).
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub(crate) fn gather(
        &self,
        file: &SafeTensors,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        let stride = self.row_bytes() as usize;
        let at = |row: usize, table: u64, group: usize| {
            row * stride
                + (self.columns + table * self.group_count * NUMBER) as usize
                + group * NUMBER as usize
        };
        let mut put =
            |at: usize, value: f32| out[at..at + NUMBER as usize].copy_from_slice(&value.to_le_bytes());
        let groups = 0..self.group_count;
        match &self.scales {
            Scales::One(scale) => {
                let count = (rows.end - rows.start) as usize;
                (0..count).for_each(|row| put(at(row, 0, 0), *scale));
            }
            Scales::Each(numbers) if self.inputs_first => {
                numbers
                    .read(file, groups.clone(), rows.clone(), |group, row, v| put(at(row, 0, group), v))?;
            }
            Scales::Each(numbers) => {
                numbers
                    .read(file, rows.clone(), groups.clone(), |row, group, v| put(at(row, 0, group), v))?;
            }
        }
        if let Zeros::Each { codes, levels, add } = &self.zeros {
            let zero = |code: u8| levels[usize::from(code)] + add;
            if self.inputs_first {
                codes.read(file, groups, rows.clone(), |group, row, c| put(at(row, 1, group), zero(c)))?;
            } else {
                codes.read(file, rows.clone(), groups, |row, group, c| put(at(row, 1, group), zero(c)))?;
            }
        }
        let columns = 0..self.columns;
        if self.inputs_first {
            self.codes.read(file, columns, rows, |column, row, code| out[row * stride + column] = code)
        } else {
            self.codes.read(file, rows, columns, |row, column, code| out[row * stride + column] = code)
        }
    }

    /// Decodes gathered rows into `out` (`[rows][columns]`).
    pub(crate) fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        let columns = self.columns as usize;
        let rows = bytes.chunks_exact(self.row_bytes() as usize);
        for (row, out) in rows.zip(out.chunks_exact_mut(columns.max(1))) {
            let (codes, numbers) = row.split_at(columns);
            let number = |table: u64, group: usize| {
                let at = (table * self.group_count * NUMBER) as usize + group * NUMBER as usize;
                f32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]])
            };
            let zero = |group: usize| match self.zeros {
                Zeros::Fixed(zero) => zero,
                Zeros::Each { .. } => number(1, group),
            };
            let levels: &Levels = self.levels;
            let value = |code: u8, zero: f32, scale: f32| (levels[usize::from(code)] - zero) * scale;
            match &self.groups {
                Groups::Even(size) => {
                    let size = (*size).max(1) as usize;
                    for (group, (codes, out)) in codes.chunks(size).zip(out.chunks_mut(size)).enumerate() {
                        let (zero, scale) = (zero(group), number(0, group));
                        codes.iter().zip(out).for_each(|(&code, out)| *out = value(code, zero, scale));
                    }
                }
                Groups::Listed(list) => {
                    for ((&code, out), &group) in codes.iter().zip(out).zip(list) {
                        *out = value(code, zero(group as usize), number(0, group as usize));
                    }
                }
            }
        }
    }
}
