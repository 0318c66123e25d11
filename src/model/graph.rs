//! A layer as a straight list of operations on named buffers.
//!
//! Every buffer is `[tokens][width]`; the width follows from what is written into it.

use std::collections::BTreeSet;
use std::ops::Range;

/// A buffer of the tile at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The residual stream, `[tokens][hidden]`; the only one that outlives a layer.
    Stream,
    /// What a norm made of it, `[tokens][hidden]`.
    Normed,
    /// Queries, keys and values side by side, `[tokens][(heads + 2 * kv_heads) * head]`.
    Fused,
    /// Queries, `[tokens][heads * head]`.
    Query,
    /// Keys, `[tokens][kv_heads * head]`.
    Key,
    /// Values, `[tokens][kv_heads * head]`.
    Value,
    /// What attention gathered, `[tokens][heads * head]`.
    Attended,
    /// The gate of the feed-forward network, `[tokens][ffn]`.
    Gate,
    /// Its upward projection, `[tokens][ffn]`.
    Up,
    /// What a block adds to the stream, `[tokens][hidden]`.
    Delta,
}

/// Number of slots.
pub const SLOTS: usize = Slot::Delta as usize + 1;

/// Which normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square: weight, no bias.
    Rms,
    /// Mean and variance: weight and bias.
    Layer,
}

/// One step of a layer. Tensor names lack `blk.N.` and `.weight`; a bias is applied where the model has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `output = norm(input)`, with the tensor called `name`.
    Norm {
        /// Read.
        input: Slot,
        /// Written.
        output: Slot,
        /// Tensor.
        name: &'static str,
        /// Which norm.
        kind: NormKind,
    },
    /// `output = input * weight'`: what observers see and quantization rounds.
    Linear {
        /// Read.
        input: Slot,
        /// Written.
        output: Slot,
        /// Tensor, `[outputs][inputs]`.
        name: &'static str,
    },
    /// Cuts [`Slot::Fused`] into queries, keys and values.
    Split,
    /// Rotates queries or keys by their positions, neighbouring pairs together (llama.cpp's NORM layout).
    Rope {
        /// Rotated in place.
        slot: Slot,
    },
    /// Causal attention over the chunk: queries, keys, values to [`Slot::Attended`].
    Attention,
    /// `gate = silu(gate) * up`.
    SiluGate,
    /// The tanh form of GELU on [`Slot::Up`].
    Gelu,
    /// `stream += delta`.
    Add,
}

impl Op {
    /// Slots that it reads.
    pub fn reads(&self) -> Vec<Slot> {
        match *self {
            Self::Norm { input, .. } | Self::Linear { input, .. } => vec![input],
            Self::Split => vec![Slot::Fused],
            Self::Rope { slot } => vec![slot],
            Self::Attention => vec![Slot::Query, Slot::Key, Slot::Value],
            Self::SiluGate => vec![Slot::Gate, Slot::Up],
            Self::Gelu => vec![Slot::Up],
            Self::Add => vec![Slot::Stream, Slot::Delta],
        }
    }

    /// Slots that it writes.
    pub fn writes(&self) -> Vec<Slot> {
        match *self {
            Self::Norm { output, .. } | Self::Linear { output, .. } => vec![output],
            Self::Split => vec![Slot::Query, Slot::Key, Slot::Value],
            Self::Rope { slot } => vec![slot],
            Self::Attention => vec![Slot::Attended],
            Self::SiluGate => vec![Slot::Gate],
            Self::Gelu => vec![Slot::Up],
            Self::Add => vec![Slot::Stream],
        }
    }
}

/// Linear maps that follow each other and read the same input: they share its statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they read.
    pub input: Slot,
    /// Their places in the layer's operations.
    pub ops: Range<usize>,
    /// Whether their only output is added to the stream right away.
    pub residual: bool,
}

impl Group {
    /// GGUF names of its weights in layer number `number`, whose operations are `layer`.
    pub fn tensors(&self, layer: &[Op], number: usize) -> Vec<String> {
        let name = |op: &Op| match *op {
            Op::Linear { name, .. } => Some(weight_name(number, name)),
            _ => None,
        };
        layer.get(self.ops.clone()).unwrap_or_default().iter().filter_map(name).collect()
    }
}

/// GGUF name of a layer's weight.
pub fn weight_name(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}.weight")
}

/// The groups of a layer, in order.
pub fn linear_groups(layer: &[Op]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, op) in layer.iter().enumerate() {
        let &Op::Linear { input, output, .. } = op else { continue };
        match groups.last_mut() {
            Some(group) if group.ops.end == at && group.input == input => {
                group.ops.end = at + 1;
                group.residual = false;
            }
            _ => {
                let residual = output == Slot::Delta && layer.get(at + 1) == Some(&Op::Add);
                groups.push(Group { input, ops: at..at + 1, residual });
            }
        }
    }
    groups
}

/// Slots whose contents the operations from `from` on need, and the stream.
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
    use crate::model::families;

    #[test]
    fn groups_share_their_input_and_little_is_live_between_them() {
        let layer = families::find("llama").unwrap().layer;
        let groups = linear_groups(layer);
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
        let lives: Vec<_> = groups.iter().map(|g| live(layer, g.ops.start)).collect();
        assert_eq!(lives[0], [Slot::Stream, Slot::Normed]);
        assert_eq!(lives[1], [Slot::Stream, Slot::Attended]);
        assert_eq!(lives[3], [Slot::Stream, Slot::Gate]);
        assert_eq!(live(layer, layer.len()), [Slot::Stream]);
    }

    #[test]
    fn a_fused_projection_is_a_group_of_its_own() {
        let layer = families::find("gpt2").unwrap().layer;
        let groups: Vec<_> = linear_groups(layer).iter().map(|g| (g.input, g.ops.clone())).collect();
        assert_eq!(
            groups,
            [(Slot::Normed, 1..2), (Slot::Attended, 4..5), (Slot::Normed, 7..8), (Slot::Up, 9..10)]
        );
    }

    #[test]
    fn maps_apart_or_of_other_inputs_are_not_grouped() {
        let linear = |input, name| Op::Linear { input, output: Slot::Delta, name };
        let ops = [
            linear(Slot::Normed, "a"),
            linear(Slot::Up, "b"),
            linear(Slot::Up, "c"),
            Op::Gelu,
            linear(Slot::Up, "d"),
        ];
        let groups: Vec<_> = linear_groups(&ops).iter().map(|g| g.ops.clone()).collect();
        assert_eq!(groups, [0..1, 1..3, 4..5]);
    }
}
