//! Llama 1 to 3, Mistral: RMS norms, rotary positions, grouped queries, gated feed-forward network.

use super::Family;
use crate::model::graph::{NormKind, Op, Slot};

pub(super) static FAMILY: Family = Family {
    name: "llama",
    learned_positions: false,
    layer: &[
        Op::Norm { input: Slot::Stream, output: Slot::Normed, name: "attn_norm", kind: NormKind::Rms },
        Op::Linear { input: Slot::Normed, output: Slot::Query, name: "attn_q" },
        Op::Linear { input: Slot::Normed, output: Slot::Key, name: "attn_k" },
        Op::Linear { input: Slot::Normed, output: Slot::Value, name: "attn_v" },
        Op::Rope { slot: Slot::Query },
        Op::Rope { slot: Slot::Key },
        Op::Attention,
        Op::Linear { input: Slot::Attended, output: Slot::Delta, name: "attn_output" },
        Op::Add,
        Op::Norm { input: Slot::Stream, output: Slot::Normed, name: "ffn_norm", kind: NormKind::Rms },
        Op::Linear { input: Slot::Normed, output: Slot::Gate, name: "ffn_gate" },
        Op::Linear { input: Slot::Normed, output: Slot::Up, name: "ffn_up" },
        Op::SiluGate,
        Op::Linear { input: Slot::Gate, output: Slot::Delta, name: "ffn_down" },
        Op::Add,
    ],
    final_norm: NormKind::Rms,
};
