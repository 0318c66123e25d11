//! Where tensors stand in the model: layers and running counts.

use super::roles::Role;

/// Where a tensor stands among those of its role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// Its layer.
    pub(super) index: u32,
    /// Tensors of the role decided by the mixture before it.
    pub(super) seen: u32,
    /// Number of layers.
    pub(super) count: u32,
}

impl Position {
    /// First or last eighth of the layers, or the third of three in between.
    pub(super) fn more_bits(self) -> bool {
        let Self { index, count, .. } = self;
        !self.middle() || (index - count / 8) % 3 == 2
    }

    /// Neither first nor last eighth.
    pub(super) fn middle(self) -> bool {
        let end = (u64::from(self.count) * 7 / 8) as u32;
        (self.count / 8..end).contains(&self.index)
    }
}

/// How many tensors of the roles that have positions the mixture has decided.
///
/// As in llama.cpp, tensors with a type of the user's are not counted, so that they shift the later ones.
#[derive(Debug, Default)]
pub(super) struct Seen {
    values: u32,
    downs: u32,
    gates: u32,
    ups: u32,
}

impl Seen {
    /// The count for `role` before this tensor, which is counted now; 0 for roles without positions.
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
