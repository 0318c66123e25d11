//! The replacement of types for tensors whose rows are no whole number of blocks.

use kquant_kernels::block::BlockType;

use super::{Fallback, RecipeError, types};

/// A type with shorter blocks for each type with long ones, of about the same or the next higher number of bits per weight.
///
/// The choices are llama.cpp's, except for Q1_0 and NVFP4, which it does not replace.
pub(super) const SHORTER: &[(&[&str], &str)] = &[
    (&["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "NVFP4"], "IQ4_NL"),
    (&["Q1_0", "Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"], "Q4_0"),
    (&["Q4_K"], "Q5_0"),
    (&["Q5_K"], "Q5_1"),
    (&["Q6_K"], "Q8_0"),
];

/// The type of last resort, which fits rows of any length.
pub(super) const ANY_LENGTH: &str = "F16";

/// Returns `wanted` if rows of `columns` weights fit it, otherwise its replacement and the reason.
pub(super) fn fit(
    wanted: &'static BlockType,
    columns: u64,
) -> Result<(&'static BlockType, Option<Fallback>), RecipeError> {
    if fits(wanted, columns) {
        return Ok((wanted, None));
    }
    let why = format!("rows of {columns} are no multiple of {}'s {}", wanted.name, wanted.elements);
    let block = match shorter(wanted)? {
        Some(block) if fits(block, columns) => block,
        _ => types::of_table(ANY_LENGTH)?,
    };
    Ok((block, Some(Fallback { wanted, why })))
}

/// Returns whether a row of `columns` weights is a whole number of blocks.
pub(super) fn fits(block: &BlockType, columns: u64) -> bool {
    columns.is_multiple_of(block.elements as u64)
}

/// Returns the type that replaces `wanted` where rows do not fit, if there is one.
fn shorter(wanted: &BlockType) -> Result<Option<&'static BlockType>, RecipeError> {
    let entry = SHORTER.iter().find(|(long, _)| long.contains(&wanted.name));
    entry.map(|&(_, short)| types::of_table(short)).transpose()
}
