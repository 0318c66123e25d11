//! Positions of tensors in the model: layers and running counts.

use super::roles::Role;

/// The position of a tensor among those of its role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// Number of the layer, from 0: read from the tensor's name if the model has experts, otherwise equal to `seen`.
    pub(super) index: u32,
    /// Number of tensors of the role that the mixture has decided before.
    pub(super) seen: u32,
    /// Number of layers or, for value tensors, of value tensors.
    pub(super) count: u32,
}

impl Position {
    /// Returns whether the layer is in the first or last eighth of all, or the third of each three in between.
    pub(super) fn more_bits(self) -> bool {
        let Self { index, count, .. } = self;
        !self.middle() || (index - count / 8) % 3 == 2
    }

    /// Returns whether the layer is neither in the first nor in the last eighth.
    pub(super) fn middle(self) -> bool {
        let end = (u64::from(self.count) * 7 / 8) as u32;
        (self.count / 8..end).contains(&self.index)
    }
}

/// The numbers of tensors that the mixture has decided so far, for each role that has positions.
///
/// Tensors whose type the user chose are not counted, as in llama.cpp, so that they shift the later ones.
#[derive(Debug, Default)]
pub(super) struct Seen {
    values: u32,
    downs: u32,
    gates: u32,
    ups: u32,
}

impl Seen {
    /// Counts a tensor of `role` and returns the count before it; 0 for roles without positions.
    pub(super) fn next(&mut self, role: Role) -> u32 {
        let counter = match role {
            Role::Value => &mut self.values,
            Role::Down => &mut self.downs,
            Role::Gate => &mut self.gates,
            Role::Up => &mut self.ups,
            _ => return 0,
        };
        *counter += 1;
        *counter - 1
    }
}
