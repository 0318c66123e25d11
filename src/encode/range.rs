//! Weights that a type cannot hold, found while rows are read and when they are encoded, before anything is written.

use kquant_kernels::block::{self, BlockType, Limits};

use super::{Encoder, Rows};

/// A weight that its type cannot hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "tensor `{tensor}`: weight at row {row}, column {column} is {value}, which is past what {kind} can hold{}. {}",
    if .value.is_finite() { "" } else { " (the checkpoint is damaged or was saved from a diverged run)" },
    remedy(.tensor, *.value)
)]
pub struct OutOfRange {
    /// GGUF name of the tensor.
    pub tensor: String,
    /// Row of the weight in the output tensor.
    pub row: u64,
    /// Column of the weight.
    pub column: u64,
    /// Value of the weight.
    pub value: f32,
    /// Name of the type that cannot hold it.
    pub kind: &'static str,
}

/// Returns advice on what to choose for a tensor that has a weight of `value`.
pub(crate) fn remedy(tensor: &str, value: f32) -> String {
    let holds = |kind: &&str| block::by_name(kind).is_some_and(|block| block.limits.holds(value));
    let kind = ["BF16"].into_iter().find(holds).unwrap_or("F32");
    let option = match tensor {
        "token_embd.weight" => format!("--token-embedding-type {kind}"),
        "output.weight" => format!("--output-tensor-type {kind}"),
        _ => format!("--tensor-type '{tensor}={kind}'"),
    };
    format!("Choose {kind} for that tensor with {option}, or for all with --type {kind}")
}

impl OutOfRange {
    /// Creates the error for weight number `at` of `rows`, which begin at row `first_row`.
    pub(crate) fn new(tensor: (&str, &BlockType), rows: Rows<'_>, at: usize, first_row: u64) -> Self {
        let columns = rows.columns.max(1);
        Self {
            tensor: tensor.0.to_owned(),
            row: first_row + (at / columns) as u64,
            column: (at % columns) as u64,
            value: rows.weights.get(at).copied().unwrap_or(f32::NAN),
            kind: tensor.1.name,
        }
    }

    /// Returns the error for rows that are those of `tensor` from `first_row` on.
    pub(crate) fn within(self, tensor: &str, first_row: u64) -> Self {
        Self { tensor: tensor.to_owned(), row: self.row + first_row, ..self }
    }
}

/// Returns the index of the first of `weights` that is `odd`.
///
/// The odd weights of a block are summed first, which compiles to vector instructions; only a block with a sum above 0 is
/// searched.
#[inline(always)]
pub(crate) fn first_where(weights: &[f32], odd: impl Fn(f32) -> bool) -> Option<usize> {
    const BLOCK: usize = 1024;
    let odd_in = |block: &[f32]| block.iter().map(|&w| u32::from(odd(w))).sum::<u32>() > 0;
    let block = weights.chunks(BLOCK).position(odd_in)?;
    let start = block * BLOCK;
    weights[start..].iter().position(|&w| odd(w)).map(|at| start + at)
}

/// Returns the index of the first weight that is not inside `limits`, or not finite.
pub(crate) fn first_outside(weights: &[f32], limits: &Limits) -> Option<usize> {
    let Limits { low, high, .. } = *limits;
    // The comparison has no branch; NaN is neither above nor below any number.
    first_where(weights, |w| !((w > low) & (w < high)))
}

/// Returns the index of the largest weight of the first block that was encoded with an infinite scale.
pub(crate) fn first_overflow(block: &BlockType, weights: &[f32], bytes: &[u8]) -> Option<usize> {
    let start = (block.limits.overflowed)(bytes)? * block.elements;
    let of_block = weights.get(start..start + block.elements)?;
    let largest = of_block.iter().enumerate().max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))?;
    Some(start + largest.0)
}

/// Encodes `rows` as [`Encoder::encode`] does.
///
/// # Errors
/// Fails with the index of a weight among those of `rows` that `block` cannot hold.
pub(crate) fn encode_in_range(
    encoder: &dyn Encoder,
    block: &BlockType,
    rows: Rows<'_>,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), usize> {
    if let Some(at) = first_outside(rows.weights, &block.limits) {
        return Err(at);
    }
    encoder.encode(block, rows, importance, out);
    first_overflow(block, rows.weights, out).map_or(Ok(()), Err)
}

/// Returns true if `bytes`, which are whole blocks, decode to zeros only. The first block nearly always decides.
pub(crate) fn is_all_zero(block: &BlockType, bytes: &[u8]) -> bool {
    let mut weights = vec![0.0; block.elements];
    bytes.chunks_exact(block.bytes).all(|bytes| {
        (block.decode)(bytes, &mut weights);
        weights.iter().all(|&w| w == 0.0)
    })
}

#[cfg(test)]
mod tests {
    use kquant_kernels::block::by_name;

    use super::super::ENCODERS;
    use super::*;

    #[test]
    fn weights_outside_are_located() {
        let limits = by_name("Q4_1").unwrap().limits;
        let mut weights = vec![1.0; 4004];
        assert_eq!(first_outside(&weights, &limits), None);
        for (at, value) in [(4003, 1.1e6), (1500, -7e4), (6, f32::NAN), (2, f32::NEG_INFINITY)] {
            weights[at] = value;
            assert_eq!(first_outside(&weights, &limits), Some(at), "{value}");
        }
        assert_eq!(first_outside(&[1.0, 1.04e6, -65519.0], &limits), None);
    }

    #[test]
    fn every_encoder_refuses_what_a_type_cannot_hold() {
        for block in block::TYPES.iter().filter(|b| b.encode.is_some() && b.limits.high < f32::INFINITY) {
            for encoder in ENCODERS {
                for value in [2.0 * block.limits.high.min(1e38), 2.0 * block.limits.low.max(-1e38)] {
                    let value =
                        if value.abs() < block.limits.high { value.signum() * f32::MAX } else { value };
                    let mut weights: Vec<f32> = (0..1024).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
                    weights[700] = value;
                    let mut out = vec![0; 1024 / block.elements * block.bytes];
                    let rows = Rows { weights: &weights, columns: 512 };
                    let importance = [1.0; 512];
                    let found = encode_in_range(*encoder, block, rows, Some(&importance), &mut out);
                    assert_eq!(found, Err(700), "{} {} {value}", encoder.name(), block.name);
                    let error = OutOfRange::new(("x", block), rows, 700, 10);
                    assert_eq!((error.row, error.column), (11, 188));
                }
            }
        }
    }

    #[test]
    fn the_remedy_holds_the_weight() {
        assert!(remedy("blk.0.ffn_up.weight", 1e5).contains("--tensor-type 'blk.0.ffn_up.weight=BF16'"));
        assert!(remedy("token_embd.weight", 1e5).contains("--token-embedding-type BF16"));
        assert!(remedy("output.weight", -3.4e38).contains("--output-tensor-type F32"));
    }

    #[test]
    fn zeros_are_what_decodes_to_zeros() {
        for name in ["Q4_0", "Q4_K", "IQ4_XS", "F16", "NVFP4", "TQ2_0"] {
            let block = by_name(name).unwrap();
            let (weights, importance) = (vec![0.0; 256], [1.0; 256]);
            let mut bytes = vec![0; 256 / block.elements * block.bytes];
            let rows = Rows { weights: &weights, columns: 256 };
            ENCODERS[0].encode(block, rows, Some(&importance), &mut bytes);
            assert!(is_all_zero(block, &bytes), "{name}");
            let mut weights = weights;
            weights[255] = 1.0;
            let rows = Rows { weights: &weights, columns: 256 };
            ENCODERS[0].encode(block, rows, Some(&importance), &mut bytes);
            assert!(!is_all_zero(block, &bytes), "{name}");
        }
    }
}
