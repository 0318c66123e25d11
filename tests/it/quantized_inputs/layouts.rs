//! The layouts of quantized weights, bit by bit.

use serde_json::{Value as Json, json};

use crate::support::*;

/// Codes of a weight and what they stand for.
pub struct Coded {
    pub rows: usize,
    pub columns: usize,
    bits: usize,
    /// The group of each column.
    groups: Vec<usize>,
    count: usize,
    codes: Vec<u64>,
    zeros: Vec<u64>,
    scales: Vec<half::f16>,
}

/// A number that looks like chance.
fn mixed(a: usize, b: usize, seed: usize) -> u64 {
    let x = (a as u64 * 0x9e37_79b9 + b as u64 * 0x85eb_ca6b + seed as u64 * 0xc2b2_ae35) ^ 0x27d4_eb2f;
    x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 40
}

impl Coded {
    /// With groups of `size` columns, which are next to each other, or taken in turns if `turns`.
    pub fn new(rows: usize, columns: usize, bits: usize, size: usize, turns: bool) -> Self {
        let count = columns / size;
        let top = 1 << bits;
        let zeros: Vec<u64> = (0..rows * count).map(|i| 1 + mixed(i, 1, bits) % (top - 1)).collect();
        Self {
            rows,
            columns,
            bits,
            groups: (0..columns).map(|c| if turns { c % count } else { c / size }).collect(),
            count,
            codes: (0..rows * columns).map(|i| mixed(i, 2, bits) % top).collect(),
            zeros,
            scales: (0..rows * count)
                .map(|i| half::f16::from_f32(mixed(i, 3, 0) as f32 / 1e10 + 1e-3))
                .collect(),
        }
    }

    /// The zero point is the middle everywhere.
    pub fn symmetric(self) -> Self {
        let middle = 1 << (self.bits - 1);
        Self { zeros: vec![middle; self.zeros.len()], ..self }
    }

    fn group_of(&self, row: usize, column: usize) -> usize {
        row * self.count + self.groups[column]
    }

    /// The weight in F32.
    pub fn values(&self, name: &str) -> Tensor {
        let value = |row: usize, column: usize| {
            let group = self.group_of(row, column);
            let code = self.codes[row * self.columns + column] as f32;
            (code - self.zeros[group] as f32) * self.scales[group].to_f32()
        };
        let values: Vec<f32> =
            (0..self.rows * self.columns).map(|i| value(i / self.columns, i % self.columns)).collect();
        Tensor::f32(name, &[self.rows as u64, self.columns as u64], &values)
    }

    /// GPTQ's parts of the weight `base`, zero points `less` stored.
    pub fn gptq(&self, base: &str, less: u64) -> Vec<Tensor> {
        let (rows, columns, bits) = (self.rows, self.columns, self.bits);
        let codes = words_down(columns, rows, bits, |k, r| self.codes[r * columns + k]);
        let zeros = words_across(self.count, rows, bits, |g, r| self.zeros[r * self.count + g] - less);
        let index: Vec<u8> = self.groups.iter().flat_map(|&g| (g as i32).to_le_bytes()).collect();
        vec![
            tensor(format!("{base}.qweight"), "I32", &[columns * bits / 32, rows], codes),
            tensor(format!("{base}.qzeros"), "I32", &[self.count, rows * bits / 32], zeros),
            tensor(format!("{base}.scales"), "F16", &[self.count, rows], self.scales_by_group()),
            tensor(format!("{base}.g_idx"), "I32", &[columns], index),
        ]
    }

    /// AWQ's parts.
    pub fn awq(&self, base: &str) -> Vec<Tensor> {
        // Which row each nibble of a word is of.
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        let (rows, columns) = (self.rows, self.columns);
        let row = |nibble: usize| nibble / 8 * 8 + ORDER[nibble % 8];
        let codes = words_across(columns, rows, 4, |k, n| self.codes[row(n) * columns + k]);
        let zeros = words_across(self.count, rows, 4, |g, n| self.zeros[row(n) * self.count + g]);
        vec![
            tensor(format!("{base}.qweight"), "I32", &[columns, rows / 8], codes),
            tensor(format!("{base}.qzeros"), "I32", &[self.count, rows / 8], zeros),
            tensor(format!("{base}.scales"), "F16", &[self.count, rows], self.scales_by_group()),
        ]
    }

    /// The parts of compressed-tensors' `pack-quantized`.
    pub fn packed(&self, base: &str, zeros: bool) -> Vec<Tensor> {
        let (rows, columns) = (self.rows, self.columns);
        let shape: Vec<u8> = [rows as u64, columns as u64].iter().flat_map(|n| n.to_le_bytes()).collect();
        let codes = words_across(rows, columns, self.bits, |r, k| self.codes[r * columns + k]);
        let scales = self.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut parts = vec![
            tensor(format!("{base}.weight_packed"), "I32", &[rows, columns * self.bits / 32], codes),
            tensor(format!("{base}.weight_scale"), "F16", &[rows, self.count], scales),
            tensor(format!("{base}.weight_shape"), "I64", &[2], shape),
        ];
        if zeros {
            let zeros = words_down(rows, self.count, self.bits, |r, g| self.zeros[r * self.count + g]);
            let shape = [rows * self.bits / 32, self.count];
            parts.push(tensor(format!("{base}.weight_zero_point"), "I32", &shape, zeros));
        }
        parts
    }

    /// The parts of compressed-tensors' `int-quantized`.
    pub fn bytes(&self, base: &str) -> Vec<Tensor> {
        let codes = self.codes.iter().map(|&code| (code as i64 - 128) as u8).collect();
        let scales = self.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        vec![
            tensor(format!("{base}.weight"), "I8", &[self.rows, self.columns], codes),
            tensor(format!("{base}.weight_scale"), "F16", &[self.rows, self.count], scales),
        ]
    }

    /// `[groups][rows]`
    fn scales_by_group(&self) -> Vec<u8> {
        let each = (0..self.count).flat_map(|g| (0..self.rows).map(move |r| r * self.count + g));
        each.flat_map(|at| self.scales[at].to_le_bytes()).collect()
    }
}

pub fn tensor(name: String, dtype: &'static str, shape: &[usize], data: Vec<u8>) -> Tensor {
    Tensor { name, dtype, shape: shape.iter().map(|&n| n as u64).collect(), data }
}

/// A matrix `[rows][columns]` of codes, each row a string of bits.
fn words_across(rows: usize, columns: usize, bits: usize, code: impl Fn(usize, usize) -> u64) -> Vec<u8> {
    let line = columns * bits / 8;
    let mut out = vec![0u8; rows * line];
    for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
        for bit in (0..bits).filter(|bit| code(row, column) >> bit & 1 == 1) {
            let at = column * bits + bit;
            out[row * line + at / 8] |= 1 << (at % 8);
        }
    }
    out
}

/// A matrix of codes, each column a string of bits in words of 32 that lie in different lines.
fn words_down(rows: usize, columns: usize, bits: usize, code: impl Fn(usize, usize) -> u64) -> Vec<u8> {
    let mut out = vec![0u8; rows * bits / 32 * columns * 4];
    for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
        for bit in (0..bits).filter(|bit| code(row, column) >> bit & 1 == 1) {
            let at = row * bits + bit;
            out[(at / 32 * columns + column) * 4 + at % 32 / 8] |= 1 << (at % 8);
        }
    }
    out
}

/// Settings of GPTQ.
pub fn gptq_config(bits: usize, group: i64) -> Json {
    json!({ "quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": false, "sym": false })
}

/// Settings of AWQ.
pub fn awq_config(group: i64) -> Json {
    json!({ "quant_method": "awq", "bits": 4, "group_size": group, "zero_point": true, "version": "gemm" })
}

/// Settings of compressed-tensors.
pub fn compressed_config(format: &str, bits: usize) -> Json {
    json!({
        "quant_method": "compressed-tensors", "format": format, "ignore": ["lm_head"],
        "config_groups": { "group_0": { "targets": ["Linear"], "weights": { "num_bits": bits, "type": "int" } } },
    })
}

/// Adds quantization settings to a folder's configuration.
pub fn configure(folder: &std::path::Path, settings: Json) {
    let mut config = micro_config();
    config["quantization_config"] = settings;
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}
