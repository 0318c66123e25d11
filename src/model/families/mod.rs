//! Architectures as lists of operations: one file each and one line here.

mod gpt2;
mod llama;

use super::graph::{NormKind, Op};

/// What distinguishes one family's forward pass from another's.
#[derive(Debug)]
pub struct Family {
    /// `general.architecture`.
    pub name: &'static str,
    /// Whether a learned position (`position_embd.weight`) is added to each embedding.
    pub learned_positions: bool,
    /// The steps of every layer.
    pub layer: &'static [Op],
    /// The norm before the output.
    pub final_norm: NormKind,
}

/// Every family.
pub static FAMILIES: &[&Family] = &[&llama::FAMILY, &gpt2::FAMILY];

/// The family called `name`.
pub fn find(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|f| f.name == name)
}
