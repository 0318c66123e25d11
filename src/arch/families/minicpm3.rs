//! MiniCPM 3: keys and values of each head come from a narrow vector, as in DeepSeek V2, with all heads written out; embeddings,
//! additions to the stream and logits have factors that no key gives.

use crate::graph::parts::*;
use crate::graph::{CutEach, Graph, Hyper, Op, Scales, Slot};

use super::phi3;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::{FixedAndValue, LowQuery, Rank, RankAndRotary, Values, WholeQuery};
use crate::arch::table::dims::{Dim, Latent, Sizes};
use crate::arch::table::entries::{CACHED, GATED, NORMS, OUTSIDE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "minicpm3";

/// The factors of all models of the family, which llama.cpp has in its graph.
const SCALES: Scales = Scales { embedding: 12.0, depth: 1.4, width: 256.0 };

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["MiniCPM3ForCausalLM"],
    model_types: &["minicpm3"],
    sizes,
    keys,
    table: &TABLE,
    computed: phi3::computed,
    takes: Takes {
        scalings: &["default", "longrope"],
        only: &[
            Only { key: "attention_bias", value: Literal::Flag(false) },
            Only { key: "mlp_bias", value: Literal::Flag(false) },
            Only { key: "rope_theta", value: Literal::Number(10000.0) },
            Only { key: "scale_emb", value: Literal::Number(SCALES.embedding as f64) },
            Only { key: "dim_model_base", value: Literal::Number(SCALES.width as f64) },
        ],
        tied: true,
        differs: |config, _| {
            let epsilon = config.optional_number(&["rms_norm_eps"])?;
            Ok((epsilon != Some(1e-6)).then_some(text::NARROW_EPSILON))
        },
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, LATENT_ATTENTION, GATED],
};

const LATENT_ATTENTION: &[Entry] = &[
    Entry::new("layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight", &[LowQuery, Dim::Hidden]),
    Entry::new("layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight", &[LowQuery]),
    Entry::new("layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight", &[WholeQuery, LowQuery]),
    Entry::new(
        "layers.{}.self_attn.kv_a_proj_with_mqa.weight",
        "blk.{}.attn_kv_a_mqa.weight",
        &[RankAndRotary, Dim::Hidden],
    ),
    Entry::new("layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight", &[Rank]),
    Entry::new("layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_kv_b.weight", &[FixedAndValue, Rank]),
    Entry::new("layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", &[Dim::Hidden, Values]),
];

static GRAPH: Graph = Graph { layer, scales: Some(SCALES), ..Graph::PLAIN };

fn layer(_: &Hyper, _: usize) -> Vec<Op> {
    let narrow = [
        linear(Slot::Normed, Slot::LowQuery, "attn_q_a"),
        linear(Slot::Normed, Slot::Fused, "attn_kv_a_mqa"),
        rms(Slot::LowQuery, Slot::LowQuery, "attn_q_a_norm"),
        linear(Slot::LowQuery, Slot::WholeQuery, "attn_q_b"),
        Op::Cut {
            input: Slot::WholeQuery,
            outputs: &[Slot::FixedQuery, Slot::RotaryQuery],
            each: CutEach::Head,
        },
        Op::Cut { input: Slot::Fused, outputs: &[Slot::Latent, Slot::RotaryKey], each: CutEach::Row },
        rms(Slot::Latent, Slot::Latent, "attn_kv_a_norm"),
        linear(Slot::Latent, Slot::KeyValue, "attn_kv_b"),
    ];
    let heads = [
        Op::Cut { input: Slot::KeyValue, outputs: &[Slot::FixedKey, Slot::Value], each: CutEach::Head },
        Op::Rope { slot: Slot::RotaryQuery },
        Op::Rope { slot: Slot::RotaryKey },
        Op::Repeat { input: Slot::RotaryKey, output: Slot::RotaryKeys },
        Op::Join { inputs: [Slot::FixedQuery, Slot::RotaryQuery], output: Slot::Query, heads: true },
        Op::Join { inputs: [Slot::FixedKey, Slot::RotaryKeys], output: Slot::Key, heads: true },
    ];
    [ATTENTION_NORM, &narrow, &heads, ATTEND, ADD, FEED_FORWARD_NORM, SILU, ADD].concat()
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::sizes(config)?;
    let value = config.count(&["v_head_dim"])?;
    if sizes.kv_heads != sizes.heads || value != sizes.hidden / sizes.heads {
        let what = "fewer heads of keys and values than of queries, or values of another width than the stream's share of a \
                    head (`num_key_value_heads`, `v_head_dim`) are";
        return Err(unsupported(config, NAME, what.to_owned()));
    }
    // The configuration gives the number in decimals.
    let depth = config.optional_number(&["scale_depth"])?;
    if depth.is_some_and(|depth| depth != SCALES.depth) {
        return Err(unsupported(config, NAME, "another factor of additions (`scale_depth`) is".to_owned()));
    }
    Ok(Sizes {
        rotary: config.count(&["qk_rope_head_dim"])?,
        latent: Latent {
            low_query: config.count(&["q_lora_rank"])?,
            rank: config.count(&["kv_lora_rank"])?,
            fixed: config.count(&["qk_nope_head_dim"])?,
            value,
        },
        ..sizes
    })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    keys.count("block_count", sizes.layers);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    text::epsilon(config, &mut keys)?;
    keys.count("vocab_size", sizes.vocab);
    keys.count("attention.q_lora_rank", sizes.latent.low_query);
    keys.count("attention.kv_lora_rank", sizes.latent.rank);
    keys.count("attention.key_length", sizes.latent.fixed.saturating_add(sizes.rotary));
    keys.count("rope.dimension_count", sizes.rotary);
    Ok(keys)
}
