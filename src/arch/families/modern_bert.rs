//! ModernBERT: an encoder with norms before attention and before the feed-forward network, a window in two of three layers, a gate
//! with GELU, and no biases.

use kquant_formats::gguf::Value;

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, NormKind, Op, Slot, Windows};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::general::Pooling;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{GELU, Literal, Only, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "modern-bert";

/// Number of layers from one without a window to the next, if the configuration gives none.
const PATTERN: u32 = 3;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["ModernBertModel", "ModernBertForMaskedLM"],
    model_types: &["modernbert"],
    sizes: |config| {
        // Old versions of transformers wrote it into every configuration; the positions are rotary.
        let _ = config.value("position_embedding_type");
        text::plain_sizes(config, NAME)
    },
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        scalings: &["default"],
        window: Window::Written { base: true },
        only: &[
            Only { key: "attention_bias", value: Literal::Flag(false) },
            Only { key: "mlp_bias", value: Literal::Flag(false) },
            Only { key: "norm_bias", value: Literal::Flag(false) },
        ],
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    // The head predicts words, which only training needs.
    ignored: &["head.dense.weight", "head.norm.weight", "decoder.weight", "decoder.bias"],
    entries: &[ENTRIES],
};

const ENTRIES: &[Entry] = &[
    Entry::new("embeddings.tok_embeddings.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("embeddings.norm.weight", "token_embd_norm.weight", &[Hidden]),
    Entry::new("final_norm.weight", "output_norm.weight", &[Hidden]),
    // The embedding's norm is that of the first layer.
    Entry::new("layers.{}.attn_norm.weight", "blk.{}.attn_norm.weight", &[Hidden])
        .of_layers(|_, layer| layer > 0),
    Entry::new("layers.{}.attn.Wqkv.weight", "blk.{}.attn_qkv.weight", &[Fused, Hidden]),
    Entry::new("layers.{}.attn.Wo.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
    Entry::new("layers.{}.mlp_norm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.mlp.Wi.weight", "blk.{}.ffn_up.weight", &[GateUp, Hidden]),
    Entry::new("layers.{}.mlp.Wo.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
];

static GRAPH: Graph = Graph {
    causal: false,
    embedding_norm: Some(NormKind::Layer),
    layer: |_, number| {
        let heads = match number {
            0 => fused_query_key_value(Slot::Stream).to_vec(),
            _ => [ATTENTION_LAYER_NORM, FUSED_QUERY_KEY_VALUE].concat(),
        };
        let attention = [&heads, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_LAYER_NORM, FUSED_GELU, ADD].concat()
    },
    final_norm: NormKind::Layer,
    windows: Windows::PatternAfter(PATTERN as usize),
    window_base: Some(10000.0),
    ..Graph::PLAIN
};

/// The feed-forward network, with gate and up in one matrix.
const FUSED_GELU: &[Op] = &[
    linear(Slot::Normed, Slot::Up, "ffn_up"),
    Op::SplitGate { routed: false },
    Op::Activate(Activation::GeluErfGate),
    linear(Slot::Gate, Slot::Delta, "ffn_down"),
];

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    text::sizes_of_layers(&mut keys, sizes);
    let rope = Rope::read(config, sizes.positions)?;
    // The published layout has a name of its own for each base.
    let base = config.optional_number(&["global_rope_theta"])?.unwrap_or(rope.theta);
    keys.number("rope.freq_base", base);
    let window_base = config.optional_number(&["local_rope_theta"])?.or(rope.window_theta);
    keys.number("rope.freq_base_swa", window_base.unwrap_or(base));
    let epsilon = config.number(&["norm_eps", "layer_norm_eps"])?;
    keys.number("attention.layer_norm_rms_epsilon", epsilon);
    keys.number("attention.layer_norm_epsilon", epsilon);
    keys.add("attention.causal", Value::Bool(false));
    let pooling = match config.optional_text(&["classifier_pooling"])? {
        Some("cls") => Some(Pooling::First),
        Some("mean") => Some(Pooling::Mean),
        Some(_) => return Err(config.unusable("classifier_pooling", "cls or mean").into()),
        None => None,
    };
    if let Some(pooling) = pooling {
        keys.count("classifier.pooling_type", pooling.id());
    }
    keys.count("attention.sliding_window", config.count(&["local_attention"])?);
    keys.count("attention.sliding_window_pattern", pattern(config, sizes)?);
    keys.add("rope.scaling.type", "none".into());
    keys.count("vocab_size", sizes.vocab);
    if let Some(name) = config.optional_text(&["hidden_activation"])? {
        keys.add("hidden_activation", name.into());
    }
    Ok(keys)
}

/// Returns the number of layers from one without a window to the next, the first layer having none.
fn pattern(config: &Config, sizes: &Sizes) -> Result<u32, ArchError> {
    let every = config.optional_count(&["global_attn_every_n_layers"])?;
    let Some(kinds) = config.optional_texts("layer_types")? else { return Ok(every.unwrap_or(PATTERN)) };
    let full = |kind: &&str| *kind == "full_attention";
    let second = kinds.iter().skip(1).position(full).map(|at| at as u32 + 1);
    let every = every.or(second).unwrap_or(sizes.layers.max(1));
    let fits = (0..).zip(&kinds).all(|(layer, kind): (u32, _)| full(kind) == layer.is_multiple_of(every));
    if !fits || kinds.len() != sizes.layers as usize {
        let what = "layers without a window (`layer_types`) at other than equal distances are".to_owned();
        return Err(unsupported(config, NAME, what));
    }
    Ok(every)
}
