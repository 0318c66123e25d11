//! GPT-2: layer norms with bias, learned positions, fused queries, keys and values, GELU.

use super::Family;
use crate::model::graph::{NormKind, Op, Slot};

pub(super) static FAMILY: Family = Family {
    name: "gpt2",
    learned_positions: true,
    layer: &[
        Op::Norm { input: Slot::Stream, output: Slot::Normed, name: "attn_norm", kind: NormKind::Layer },
        Op::Linear { input: Slot::Normed, output: Slot::Fused, name: "attn_qkv" },
        Op::Split,
        Op::Attention,
        Op::Linear { input: Slot::Attended, output: Slot::Delta, name: "attn_output" },
        Op::Add,
        Op::Norm { input: Slot::Stream, output: Slot::Normed, name: "ffn_norm", kind: NormKind::Layer },
        Op::Linear { input: Slot::Normed, output: Slot::Up, name: "ffn_up" },
        Op::Gelu,
        Op::Linear { input: Slot::Up, output: Slot::Delta, name: "ffn_down" },
        Op::Add,
    ],
    final_norm: NormKind::Layer,
};
