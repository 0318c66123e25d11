//! Look-ups of block types by name.

use kquant_kernels::block::{self, BlockType};

use super::RecipeError;
use super::nearest::did_you_mean;

/// Returns the block type that a table of this room calls `name`.
pub(super) fn of_table(name: &'static str) -> Result<&'static BlockType, RecipeError> {
    block::by_name(name).ok_or(RecipeError::NoSuchBlock { name })
}

/// Returns the block type that the user calls `name`, in any case.
///
/// # Errors
/// Fails when there is no such type, or kquant can read it but not write it.
pub fn block_type(name: &str) -> Result<&'static BlockType, RecipeError> {
    let found = block::by_name(name).ok_or_else(|| RecipeError::UnknownType {
        name: name.to_owned(),
        meant: did_you_mean(name, block::TYPES.iter().filter(|t| t.encode.is_some()).map(|t| t.name)),
        available: available(),
    })?;
    if found.encode.is_some() {
        Ok(found)
    } else {
        Err(RecipeError::TypeNotYet { name: found.name, available: available() })
    }
}

/// Returns the names of the block types that kquant can write, for a message.
pub(super) fn available() -> String {
    let names: Vec<&str> = block::TYPES.iter().filter(|t| t.encode.is_some()).map(|t| t.name).collect();
    names.join(", ")
}
