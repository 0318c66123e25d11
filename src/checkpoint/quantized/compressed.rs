//! Weights of compressed-tensors, and of other programs that keep scales in `X.weight_scale` (fp8 without blocks,
//! modelopt).
//!
//! | format | parts |
//! |---|---|
//! | `pack-quantized` | `weight_packed` I32 `[rows][words]`, `weight_scale`, `weight_shape`, maybe `weight_zero_point`, `weight_g_idx` |
//! | `int-quantized`, `float-quantized`, `naive-quantized` | `weight` I8 or F8 `[rows][columns]`, `weight_scale`, maybe `weight_zero_point` |
//! | `nvfp4-pack-quantized`, `mxfp4-pack-quantized` | `weight_packed` U8 `[rows][columns / 2]`, `weight_scale` F8 `[rows][columns / 16 or 32]`, `weight_global_scale` |
//! | modelopt's NVFP4 | `weight` U8, `weight_scale` F8, `weight_scale_2` |
//!
//! Scales are `[1]`, `[rows]`, `[rows][1]`, `[rows][groups]`, or one for each block.

use std::sync::LazyLock;

use kquant_formats::safetensors::Dtype;

use super::super::ReadError;
use super::codes::{Codes, Direction, Order, words};
use super::packed::{E2M1, E4M3, E5M2, Groups, Levels, Numbers, Packed, SIGNED, Scales, UNSIGNED, Zeros};
use super::parts::{Parts, Weight, integer_name};
use super::scales;

/// Returns the weight that tensor `number` belongs to, in a checkpoint whose packed weights have one of the widths
/// `bits`.
pub(super) fn weight(
    parts: &Parts,
    number: usize,
    bits: &[u64],
    block: Option<[u64; 2]>,
) -> Result<Weight, ReadError> {
    let t = parts.tensor(number);
    if let Some(name) = t.name.strip_suffix("_packed").filter(|name| name.ends_with(".weight")) {
        return match t.dtype {
            Dtype::U8 => fp4(parts, name, number),
            _ => integers(parts, name, number, bits),
        };
    }
    let name = t.name.as_str();
    let codes = matches!(t.dtype, Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2);
    let scale = parts.find(&format!("{name}_scale"));
    match scale {
        Some(scale) if t.dtype == Dtype::U8 && parts.tensor(scale).dtype == Dtype::F8E4M3 => {
            fp4(parts, name, number)
        }
        Some(scale) if codes => bytes(parts, name, number, scale, block),
        None if codes => Err(parts.fault(
            number,
            format!("there is no `{name}_scale` or `{name}_scale_inv`; download the checkpoint again"),
        )),
        _ => Ok(Weight::Plain),
    }
}

/// Returns a weight whose codes have a byte each.
fn bytes(
    parts: &Parts,
    name: &str,
    number: usize,
    scale: usize,
    block: Option<[u64; 2]>,
) -> Result<Weight, ReadError> {
    let (t, s) = (parts.tensor(number), parts.tensor(scale));
    let zero = parts.find(&format!("{name}_zero_point"));
    let [rows, columns] = t.shape[..] else {
        return Ok(Weight::Scaled(scales::Scales::read(parts, number, scale, block)?));
    };
    let by_group = matches!(s.shape[..], [r, groups] if r == rows && groups > 1) && block.is_none();
    if zero.is_none() && !by_group {
        return Ok(Weight::Scaled(scales::Scales::read(parts, number, scale, block)?));
    }
    let (levels, dtype): (&'static LazyLock<Levels>, _) = match t.dtype {
        Dtype::F8E4M3 => (&E4M3, "F8_E4M3"),
        Dtype::F8E5M2 => (&E5M2, "F8_E5M2"),
        _ => (&SIGNED, "I8"),
    };
    let (scales, count) = grouped(parts, scale, rows)?;
    let own = |stored: usize, columns: u64| Codes {
        stored,
        rows,
        columns,
        bits: 8,
        order: Order::Stream,
        direction: Direction::Across,
    };
    let zeros = match zero {
        None => Zeros::Fixed(0.0),
        Some(zero) => {
            expect_each(parts, zero, &[Dtype::I8], rows, count)?;
            Zeros::Each { codes: own(zero, count), levels: &SIGNED, add: 0.0 }
        }
    };
    let packed = Packed {
        codes: own(number, columns),
        levels,
        scales,
        zeros,
        groups: groups(parts, name, scale, columns, count)?,
        group_count: count,
        inputs_first: false,
        columns,
    };
    parts.packed(name.to_owned(), rows, packed, (dtype, scale))
}

/// Returns a weight of integers that are packed into words of 32 bits.
fn integers(parts: &Parts, name: &str, number: usize, bits: &[u64]) -> Result<Weight, ReadError> {
    let [scale, shape] = ["_scale", "_shape"].map(|end| parts.need(number, &format!("{name}{end}")));
    let (scale, shape) = (scale?, shape?);
    let [rows, columns] = parts.integers(shape)?[..] else {
        return Err(parts.fault(shape, "expected two numbers, rows and columns".into()));
    };
    let sizes = [rows, columns].map(|n| u32::try_from(n).ok().filter(|&n| n > 0).map(u64::from));
    let [Some(rows), Some(columns)] = sizes else {
        return Err(parts.fault(shape, format!("says {rows} x {columns} weights")));
    };
    let width = parts.tensor(number).shape.last().copied().unwrap_or(0);
    let bits =
        bits.iter().copied().find(|&bits| words(columns, bits, Order::Words) == width).ok_or_else(|| {
            let bits: Vec<String> = bits.iter().map(u64::to_string).collect();
            let what = format!(
                "rows of {columns} codes (`{name}_shape`) of {} bits are not {width} words",
                bits.join(" or ")
            );
            parts.fault(number, what)
        })?;
    parts.expect(number, &[Dtype::I32], &[rows, width])?;
    let (scales, count) = grouped(parts, scale, rows)?;
    // Stored codes are unsigned, and so are stored zero points.
    let zeros = match parts.find(&format!("{name}_zero_point")) {
        None => Zeros::Fixed((1u32 << (bits - 1)) as f32),
        Some(zero) if parts.tensor(zero).dtype == Dtype::I8 => {
            expect_each(parts, zero, &[Dtype::I8], rows, count)?;
            let codes = Codes {
                stored: zero,
                rows,
                columns: count,
                bits: 8,
                order: Order::Stream,
                direction: Direction::Across,
            };
            Zeros::Each { codes, levels: &SIGNED, add: (1u32 << (bits - 1)) as f32 }
        }
        Some(zero) => {
            parts.expect(zero, &[Dtype::I32], &[words(rows, bits, Order::Words), count])?;
            let codes = Codes {
                stored: zero,
                rows,
                columns: count,
                bits,
                order: Order::Words,
                direction: Direction::Down,
            };
            Zeros::Each { codes, levels: &UNSIGNED, add: 0.0 }
        }
    };
    let codes =
        Codes { stored: number, rows, columns, bits, order: Order::Words, direction: Direction::Across };
    let packed = Packed {
        codes,
        levels: &UNSIGNED,
        scales,
        zeros,
        groups: groups(parts, name, scale, columns, count)?,
        group_count: count,
        inputs_first: false,
        columns,
    };
    parts.packed(name.to_owned(), rows, packed, (integer_name(bits), scale))
}

/// Returns a weight of 4-bit floats, two to a byte, with 8-bit scales: F8_E4M3 for 16 weights each and one scale for all,
/// or E8M0 for 32 weights each.
fn fp4(parts: &Parts, name: &str, number: usize) -> Result<Weight, ReadError> {
    let scale = parts.need(number, &format!("{name}_scale"))?;
    let [rows, half] = parts.tensor(number).shape[..] else {
        return Err(parts.fault(number, "expected two dimensions".into()));
    };
    let columns = half * 2;
    let (dtype, size) = match parts.tensor(scale).dtype {
        Dtype::F8E4M3 => ("NVFP4", 16),
        _ => ("MXFP4", 32),
    };
    let count = columns.div_ceil(size);
    parts.expect(scale, &[Dtype::F8E4M3, Dtype::F8E8M0, Dtype::U8], &[rows, count])?;
    let numbers = Numbers::new(parts.file, scale, count)
        .ok_or_else(|| parts.fault(scale, "scales of this type are not supported".into()))?;
    // The scale for all weights is a divisor in compressed-tensors, and a factor in modelopt.
    let all = |end: &str| parts.find(&format!("{name}{end}"));
    let numbers = match (dtype, all("_global_scale"), all("_scale_2")) {
        ("MXFP4", ..) => numbers,
        (_, Some(global), _) => numbers.divided_by(one(parts, global)?),
        (_, _, Some(global)) => numbers.times(one(parts, global)?),
        _ => {
            return Err(parts.fault(
                number,
                format!(
                    "there is no `{name}_global_scale` or `{name}_scale_2`; download the checkpoint again"
                ),
            ));
        }
    };
    let codes =
        Codes { stored: number, rows, columns, bits: 4, order: Order::Stream, direction: Direction::Across };
    let packed = Packed {
        codes,
        levels: &E2M1,
        scales: Scales::Each(numbers),
        zeros: Zeros::Fixed(0.0),
        groups: Groups::Even(size),
        group_count: count,
        inputs_first: false,
        columns,
    };
    parts.packed(name.to_owned(), rows, packed, (dtype, scale))
}

/// Returns the only number of tensor `number`.
fn one(parts: &Parts, number: usize) -> Result<f32, ReadError> {
    let numbers = Numbers::new(parts.file, number, 1);
    match numbers.map(|numbers| numbers.all(parts.file)).transpose()?.as_deref() {
        Some([value]) => Ok(*value),
        _ => Err(parts.fault(number, "expected one number".into())),
    }
}

/// Returns the scales in tensor `scale` for `rows` rows, and the number of scales of each row.
fn grouped(parts: &Parts, scale: usize, rows: u64) -> Result<(Scales, u64), ReadError> {
    let count = match parts.tensor(scale).shape[..] {
        [] | [1] | [1, 1] => return Ok((Scales::One(one(parts, scale)?), 1)),
        [r] if r == rows => 1,
        [r, groups] if r == rows && groups > 0 => groups,
        _ => return Err(parts.fault(scale, format!("expected [1], [{rows}] or [{rows}, groups]"))),
    };
    let numbers = Numbers::new(parts.file, scale, count)
        .ok_or_else(|| parts.fault(scale, "scales of this type are not supported".into()))?;
    Ok((Scales::Each(numbers), count))
}

/// Checks that tensor `number` has a value for each of `rows` rows and `count` groups.
fn expect_each(
    parts: &Parts,
    number: usize,
    dtypes: &[Dtype],
    rows: u64,
    count: u64,
) -> Result<(), ReadError> {
    match parts.tensor(number).shape[..] {
        [r] if r == rows && count == 1 => parts.expect(number, dtypes, &[rows]),
        _ => parts.expect(number, dtypes, &[rows, count]),
    }
}

fn groups(parts: &Parts, name: &str, scale: usize, columns: u64, count: u64) -> Result<Groups, ReadError> {
    parts.groups(scale, columns, count, parts.find(&format!("{name}_g_idx")))
}
