//! Weights of GPTQ and AWQ: `X.qweight`, `X.qzeros` and `X.scales`, with inputs as rows.
//!
//! | part | GPTQ | AWQ |
//! |---|---|---|
//! | `qweight` | `[inputs * bits / 32][outputs]`, words hold inputs | `[inputs][outputs / 8]`, words hold outputs |
//! | `qzeros` | `[groups][outputs * bits / 32]` | `[groups][outputs / 8]` |
//! | `scales` | `[groups][outputs]` | `[groups][outputs]` |
//! | `g_idx` | `[inputs]`: the group of each | none |

use kquant_formats::safetensors::Dtype;

use super::super::ReadError;
use super::codes::{Codes, Direction, Order, words};
use super::config::Group;
use super::packed::{Numbers, Packed, Scales, UNSIGNED, Zeros};
use super::parts::{Parts, Weight, integer_name};

/// Numbers of bits per code that GPTQ's programs write.
const BITS: [u64; 4] = [2, 3, 4, 8];

const FLOATS: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::F32];

/// Returns the weight whose codes are in `qweight`; `add` is what is added to stored zero points.
pub(super) fn gptq(
    parts: &Parts,
    base: &str,
    qweight: usize,
    bits: Option<u64>,
    group: Group,
    add: f32,
) -> Result<Weight, ReadError> {
    let [scales, qzeros] = [".scales", ".qzeros"].map(|end| parts.need(qweight, &format!("{base}{end}")));
    let (scales, qzeros) = (scales?, qzeros?);
    let (lines, rows) = matrix(parts, qweight)?;
    let (count, _) = matrix(parts, scales)?;
    parts.expect(scales, &FLOATS, &[count, rows])?;
    let stored = parts.tensor(qzeros).shape.last().copied().unwrap_or(0);
    let fits =
        |bits: &u64| words(rows, *bits, Order::Stream) == stored && lines.is_multiple_of(period(*bits));
    let bits = bits
        .map_or(&BITS[..], |bits| &BITS[BITS.iter().position(|&b| b == bits).map_or(0..0, |at| at..at + 1)]);
    let bits = bits.iter().copied().find(fits).ok_or_else(|| {
        let bits: Vec<String> = bits.iter().map(u64::to_string).collect();
        parts.fault(qzeros, format!("does not fit {lines} x {rows} words of {} bits", bits.join(", ")))
    })?;
    parts.expect(qweight, &[Dtype::I32], &[lines, rows])?;
    parts.expect(qzeros, &[Dtype::I32], &[count, stored])?;
    let columns = lines * 32 / bits;
    let list = parts.find(&format!("{base}.g_idx"));
    if list.is_none() {
        fit_groups(parts, scales, columns, count, group)?;
    }
    let zeros = Codes {
        stored: qzeros,
        rows: count,
        columns: rows,
        bits,
        order: Order::Stream,
        direction: Direction::Across,
    };
    let codes = Codes {
        stored: qweight,
        rows: columns,
        columns: rows,
        bits,
        order: Order::Stream,
        direction: Direction::Down,
    };
    let packed = Packed {
        codes,
        levels: &UNSIGNED,
        scales: numbers(parts, scales, rows)?,
        zeros: Zeros::Each { codes: zeros, levels: &UNSIGNED, add },
        groups: parts.groups(scales, columns, count, list)?,
        group_count: count,
        inputs_first: true,
        columns,
    };
    parts.packed(format!("{base}.weight"), rows, packed, (integer_name(bits), scales))
}

/// Returns the number of words after which codes begin with a word again.
fn period(bits: u64) -> u64 {
    if 32u64.is_multiple_of(bits) { 1 } else { bits }
}

/// Returns the weight whose codes are in `qweight` in the layout `gemm`.
pub(super) fn awq(parts: &Parts, base: &str, qweight: usize, group: Group) -> Result<Weight, ReadError> {
    const BITS: u64 = 4;
    let [scales, qzeros] = [".scales", ".qzeros"].map(|end| parts.need(qweight, &format!("{base}{end}")));
    let (scales, qzeros) = (scales?, qzeros?);
    let (columns, width) = matrix(parts, qweight)?;
    let (count, _) = matrix(parts, scales)?;
    let rows = width * 32 / BITS;
    parts.expect(qweight, &[Dtype::I32], &[columns, width])?;
    parts.expect(scales, &FLOATS, &[count, rows])?;
    parts.expect(qzeros, &[Dtype::I32], &[count, width])?;
    fit_groups(parts, scales, columns, count, group)?;
    let codes = |stored: usize, lines: u64| Codes {
        stored,
        rows: lines,
        columns: rows,
        bits: BITS,
        order: Order::EvenFirst,
        direction: Direction::Across,
    };
    let packed = Packed {
        codes: codes(qweight, columns),
        levels: &UNSIGNED,
        scales: numbers(parts, scales, rows)?,
        zeros: Zeros::Each { codes: codes(qzeros, count), levels: &UNSIGNED, add: 0.0 },
        groups: parts.groups(scales, columns, count, None)?,
        group_count: count,
        inputs_first: true,
        columns,
    };
    parts.packed(format!("{base}.weight"), rows, packed, (integer_name(BITS), scales))
}

/// Returns the dimensions of a tensor that must have two.
fn matrix(parts: &Parts, number: usize) -> Result<(u64, u64), ReadError> {
    match parts.tensor(number).shape[..] {
        [lines, width] if lines > 0 && width > 0 => Ok((lines, width)),
        _ => Err(parts.fault(number, "expected two dimensions".into())),
    }
}

fn numbers(parts: &Parts, scales: usize, columns: u64) -> Result<Scales, ReadError> {
    let numbers = Numbers::new(parts.file, scales, columns);
    numbers
        .map(Scales::Each)
        .ok_or_else(|| parts.fault(scales, "scales of this type are not supported".into()))
}

/// Checks that `count` groups are what the configuration says.
fn fit_groups(parts: &Parts, scales: usize, columns: u64, count: u64, group: Group) -> Result<(), ReadError> {
    let (size, fits) = match group {
        Group::Unknown => return Ok(()),
        Group::Row => (columns, count == 1),
        Group::Of(size) => (size, size.checked_mul(count) == Some(columns)),
    };
    let what =
        || format!("{count} groups are not those of {columns} columns in groups of {size} (`group_size`)");
    if fits { Ok(()) } else { Err(parts.fault(scales, what())) }
}
