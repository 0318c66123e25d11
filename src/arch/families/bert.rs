//! BERT and XLM-RoBERTa: encoders with learned positions and norms after attention and after the feed-forward network.

use kquant_formats::gguf::Value;

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, NormKind, Slot};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{GELU, Literal, Only, Takes};
use crate::arch::table::text;
use crate::tensor::RowOrder;

const NAME: &str = "bert";

/// Number that norms add to the variance if the configuration gives none, as in transformers.
const EPSILON: f32 = 1e-12;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["BertModel", "BertForMaskedLM"],
    model_types: &["bert"],
    sizes: |config| sizes(config, 0),
    keys,
    table: &TABLE,
    computed: nothing,
    takes: TAKES,
    graph: &GRAPH,
};

/// XLM-RoBERTa, which is BERT with other positions, as the registry lists it.
pub(super) static ROBERTA_FAMILY: Family = Family {
    name: NAME,
    classes: &["XLMRobertaModel", "XLMRobertaForMaskedLM"],
    model_types: &["xlm-roberta"],
    // The padding token has a position of its own, and texts begin after it.
    sizes: |config| sizes(config, i64::from(config.optional_integer(&["pad_token_id"])?.unwrap_or(1)) + 1),
    keys,
    table: &ROBERTA_TABLE,
    computed: nothing,
    takes: TAKES,
    graph: &GRAPH,
};

const TAKES: Takes = Takes {
    activations: GELU,
    scalings: &[],
    only: &[
        Only { key: "is_decoder", value: Literal::Flag(false) },
        Only { key: "add_cross_attention", value: Literal::Flag(false) },
    ],
    tied: true,
    ..Takes::PLAIN
};

static TABLE: Table =
    Table { family: NAME, prefix: "bert.", ignored: IGNORED, entries: &[EMBEDDINGS, LAYERS] };

static ROBERTA_TABLE: Table =
    Table { family: NAME, prefix: "roberta.", ignored: IGNORED, entries: &[EMBEDDINGS, LAYERS] };

/// Ends of the names of what only other tasks than embedding need: heads that predict words or sentences, and a numbering.
const IGNORED: &[&str] = &[
    "embeddings.position_ids",
    "pooler.dense.weight",
    "pooler.dense.bias",
    "cls.predictions.bias",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "cls.predictions.transform.dense.weight",
    "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.LayerNorm.weight",
    "cls.predictions.transform.LayerNorm.bias",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
    "lm_head.bias",
    "lm_head.decoder.weight",
    "lm_head.decoder.bias",
    "lm_head.dense.weight",
    "lm_head.dense.bias",
    "lm_head.layer_norm.weight",
    "lm_head.layer_norm.bias",
];

const EMBEDDINGS: &[Entry] = &[
    Entry::new("embeddings.word_embeddings.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("embeddings.position_embeddings.weight", "position_embd.weight", &[StoredPositions, Hidden])
        .part(&[Positions, Hidden], |sizes| RowOrder::Picked {
            length: sizes.positions.into(),
            stride: sizes.get(StoredPositions),
            first: sizes.skipped_positions.into(),
            step: 1,
        })
        .always_f32(),
    Entry::new("embeddings.token_type_embeddings.weight", "token_types.weight", &[TokenTypes, Hidden])
        .always_f32(),
    Entry::new("embeddings.LayerNorm.weight", "token_embd_norm.weight", &[Hidden]),
    Entry::new("embeddings.LayerNorm.bias", "token_embd_norm.bias", &[Hidden]),
];

const LAYERS: &[Entry] = &[
    Entry::new("encoder.layer.{}.attention.self.query.weight", "blk.{}.attn_q.weight", &[Query, Hidden]),
    Entry::new("encoder.layer.{}.attention.self.query.bias", "blk.{}.attn_q.bias", &[Query]),
    Entry::new("encoder.layer.{}.attention.self.key.weight", "blk.{}.attn_k.weight", &[KeyValue, Hidden]),
    Entry::new("encoder.layer.{}.attention.self.key.bias", "blk.{}.attn_k.bias", &[KeyValue]),
    Entry::new("encoder.layer.{}.attention.self.value.weight", "blk.{}.attn_v.weight", &[KeyValue, Hidden]),
    Entry::new("encoder.layer.{}.attention.self.value.bias", "blk.{}.attn_v.bias", &[KeyValue]),
    Entry::new(
        "encoder.layer.{}.attention.output.dense.weight",
        "blk.{}.attn_output.weight",
        &[Hidden, Query],
    ),
    Entry::new("encoder.layer.{}.attention.output.dense.bias", "blk.{}.attn_output.bias", &[Hidden]),
    Entry::new(
        "encoder.layer.{}.attention.output.LayerNorm.weight",
        "blk.{}.attn_output_norm.weight",
        &[Hidden],
    ),
    Entry::new("encoder.layer.{}.attention.output.LayerNorm.bias", "blk.{}.attn_output_norm.bias", &[Hidden]),
    Entry::new("encoder.layer.{}.intermediate.dense.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("encoder.layer.{}.intermediate.dense.bias", "blk.{}.ffn_up.bias", &[FeedForward]),
    Entry::new("encoder.layer.{}.output.dense.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
    Entry::new("encoder.layer.{}.output.dense.bias", "blk.{}.ffn_down.bias", &[Hidden]),
    Entry::new("encoder.layer.{}.output.LayerNorm.weight", "blk.{}.layer_output_norm.weight", &[Hidden]),
    Entry::new("encoder.layer.{}.output.LayerNorm.bias", "blk.{}.layer_output_norm.bias", &[Hidden]),
];

static GRAPH: Graph = Graph {
    causal: false,
    learned_positions: true,
    embedding_norm: Some(NormKind::Layer),
    layer: |_, _| {
        let attention = [&query_key_value(Slot::Stream), ATTEND, ADD, ATTENTION_OUTPUT_NORM].concat();
        let feed_forward = two_matrices(Slot::Stream, Activation::GeluErf);
        [&attention, &feed_forward[..], ADD, LAYER_OUTPUT_NORM].concat()
    },
    final_norm_name: None,
    ..Graph::PLAIN
};

fn sizes(config: &Config, skipped_positions: i64) -> Result<Sizes, ArchError> {
    let kind = config.optional_text(&["position_embedding_type"])?.unwrap_or("absolute");
    if kind != "absolute" {
        let what = format!("positions of type {kind} (`position_embedding_type`) are");
        return Err(unsupported(config, NAME, what));
    }
    let sizes = text::plain_sizes(config, NAME)?;
    let skipped_positions = u32::try_from(skipped_positions).unwrap_or(0);
    let positions = sizes.positions.checked_sub(skipped_positions).filter(|&positions| positions > 0);
    Ok(Sizes {
        positions: positions.ok_or_else(|| {
            config.unusable("max_position_embeddings", "more positions than the padding token takes")
        })?,
        skipped_positions,
        token_types: config.count(&["type_vocab_size"])?,
        ..sizes
    })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    text::sizes_of_layers(&mut keys, sizes);
    let epsilon = config.optional_number(&["layer_norm_eps"])?.unwrap_or(EPSILON);
    keys.number("attention.layer_norm_epsilon", epsilon);
    keys.add("attention.causal", Value::Bool(false));
    Ok(keys)
}
