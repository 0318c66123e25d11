//! Linear maps that share an input, and the slots that are live between operations.

use std::collections::BTreeSet;
use std::ops::Range;

use super::op::{By, Op};
use super::slot::Slot;

/// A linear map of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    pub input: Slot,
    pub output: Slot,
    pub name: &'static str,
    pub by: Option<By>,
}

/// A run of linear maps that read the same input and so share its statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The slot that they read.
    pub input: Slot,
    /// The way in which a row's matrix is selected, if there are several matrices.
    pub by: Option<By>,
    /// Places of the maps in the layer's operations.
    pub ops: Range<usize>,
    /// True if their only output is added to the stream right away.
    pub residual: bool,
}

impl Group {
    /// Returns the GGUF names of the group's weights in layer number `number`, whose operations are `layer`.
    pub fn tensors(&self, layer: &[Op], number: usize) -> Vec<String> {
        let name = |op: &Op| op.map().map(|map| weight_name(number, map.name));
        layer.get(self.ops.clone()).unwrap_or_default().iter().filter_map(name).collect()
    }
}

/// Returns the GGUF name of the weight `name` of layer `layer`.
pub fn weight_name(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}.weight")
}

/// Returns the groups of a layer, in order.
pub fn linear_groups(layer: &[Op]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, op) in layer.iter().enumerate() {
        let Some(Map { input, output, by, .. }) = op.map() else { continue };
        match groups.last_mut() {
            Some(group) if group.ops.end == at && group.input == input && group.by == by => {
                group.ops.end = at + 1;
                group.residual = false;
            }
            _ => {
                let residual = by.is_none() && output == Slot::Delta && layer.get(at + 1) == Some(&Op::Add);
                groups.push(Group { input, by, ops: at..at + 1, residual });
            }
        }
    }
    groups
}

/// Returns the slots that the operations from `from` on read before they write them, and the stream.
pub fn live(layer: &[Op], from: usize) -> Vec<Slot> {
    let mut live = BTreeSet::from([Slot::Stream]);
    for op in layer[from..].iter().rev() {
        for slot in op.writes() {
            live.remove(&slot);
        }
        live.extend(op.reads());
    }
    live.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Activation;
    use crate::graph::parts::*;

    fn llama() -> Vec<Op> {
        [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD, FEED_FORWARD_NORM, SILU, ADD].concat()
    }

    #[test]
    fn groups_share_their_input_and_little_is_live_between_them() {
        let layer = llama();
        let groups = linear_groups(&layer);
        let inputs: Vec<_> = groups.iter().map(|g| (g.input, g.ops.len(), g.residual)).collect();
        assert_eq!(
            inputs,
            [
                (Slot::Normed, 3, false),
                (Slot::Attended, 1, true),
                (Slot::Normed, 2, false),
                (Slot::Gate, 1, true)
            ]
        );
        let lives: Vec<_> = groups.iter().map(|g| live(&layer, g.ops.start)).collect();
        assert_eq!(lives[0], [Slot::Stream, Slot::Normed]);
        assert_eq!(lives[1], [Slot::Stream, Slot::Attended]);
        assert_eq!(lives[3], [Slot::Stream, Slot::Gate]);
        assert_eq!(live(&layer, layer.len()), [Slot::Stream]);
    }

    #[test]
    fn experts_are_groups_of_their_own() {
        let groups = linear_groups(SILU_EXPERTS);
        let inputs: Vec<_> = groups.iter().map(|g| (g.input, g.by, g.ops.len(), g.residual)).collect();
        let routed = Some(By::Routes);
        let expected = [
            (Slot::Normed, None, 1, false),
            (Slot::Normed, routed, 2, false),
            (Slot::Gate, routed, 1, false),
        ];
        assert_eq!(inputs, expected);
        let before_down = live(SILU_EXPERTS, groups[2].ops.start);
        assert_eq!(before_down, [Slot::Stream, Slot::Routes, Slot::Gate]);
    }

    #[test]
    fn maps_apart_or_of_other_inputs_are_not_grouped() {
        let linear = |input, name| Op::Linear { input, output: Slot::Delta, name };
        let ops = [
            linear(Slot::Normed, "a"),
            linear(Slot::Up, "b"),
            linear(Slot::Up, "c"),
            Op::Activate(Activation::Gelu),
            linear(Slot::Up, "d"),
        ];
        let groups: Vec<_> = linear_groups(&ops).iter().map(|g| g.ops.clone()).collect();
        assert_eq!(groups, [0..1, 1..3, 4..5]);
    }
}
