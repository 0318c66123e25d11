//! Nomic BERT: BERT with rotary positions, a gated feed-forward network and no biases of linear maps.

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
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "nomic-bert";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["NomicBertModel"],
    model_types: &["nomic_bert"],
    sizes,
    keys: |config, sizes| {
        let mut keys = Keys::new(NAME);
        text::sizes_of_layers(&mut keys, sizes);
        Rope::read(config, sizes.positions)?.write(&mut keys, false);
        let epsilon = config.number(&["layer_norm_epsilon", "layer_norm_eps"])?;
        keys.number("attention.layer_norm_epsilon", epsilon);
        keys.add("attention.causal", Value::Bool(false));
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        // The published configuration names the gated network, the newer one the function of its gate.
        activations: &["silu", "swiglu"],
        scalings: &["default"],
        theta: Some(1000.0),
        only: ONLY,
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

/// Values of keys that the published models' code knows further ones of; llama.cpp's graph has one of each.
const ONLY: &[Only] = &[
    Only { key: "causal", value: Literal::Flag(false) },
    Only { key: "qkv_proj_bias", value: Literal::Flag(false) },
    Only { key: "mlp_fc1_bias", value: Literal::Flag(false) },
    Only { key: "mlp_fc2_bias", value: Literal::Flag(false) },
    Only { key: "prenorm", value: Literal::Flag(false) },
    Only { key: "parallel_block", value: Literal::Flag(false) },
    Only { key: "parallel_block_tied_norm", value: Literal::Flag(false) },
    Only { key: "use_rms_norm", value: Literal::Flag(false) },
    Only { key: "rotary_emb_fraction", value: Literal::Number(1.0) },
    Only { key: "rotary_emb_interleaved", value: Literal::Flag(false) },
    Only { key: "rotary_emb_scale_base", value: Literal::Null },
    Only { key: "rotary_scaling_factor", value: Literal::Null },
    Only { key: "scale_attn_by_inverse_layer_idx", value: Literal::Flag(false) },
    Only { key: "scale_attn_weights", value: Literal::Flag(true) },
    Only { key: "moe_every_n_layers", value: Literal::Null },
];

static TABLE: Table = Table {
    family: NAME,
    prefix: "bert.",
    ignored: &["pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"],
    entries: &[ENTRIES],
};

const ENTRIES: &[Entry] = &[
    Entry::new("embeddings.word_embeddings.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("embeddings.token_type_embeddings.weight", "token_types.weight", &[TokenTypes, Hidden])
        .always_f32(),
    Entry::new("emb_ln.weight", "token_embd_norm.weight", &[Hidden]),
    Entry::new("emb_ln.bias", "token_embd_norm.bias", &[Hidden]),
    Entry::new("encoder.layers.{}.attn.Wqkv.weight", "blk.{}.attn_qkv.weight", &[Fused, Hidden]),
    Entry::new("encoder.layers.{}.attn.out_proj.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
    Entry::new("encoder.layers.{}.mlp.fc11.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("encoder.layers.{}.mlp.fc12.weight", "blk.{}.ffn_gate.weight", &[FeedForward, Hidden]),
    Entry::new("encoder.layers.{}.mlp.fc2.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
    Entry::new("encoder.layers.{}.norm1.weight", "blk.{}.attn_output_norm.weight", &[Hidden]),
    Entry::new("encoder.layers.{}.norm1.bias", "blk.{}.attn_output_norm.bias", &[Hidden]),
    Entry::new("encoder.layers.{}.norm2.weight", "blk.{}.layer_output_norm.weight", &[Hidden]),
    Entry::new("encoder.layers.{}.norm2.bias", "blk.{}.layer_output_norm.bias", &[Hidden]),
];

static GRAPH: Graph = Graph {
    causal: false,
    embedding_norm: Some(NormKind::Layer),
    layer: |_, _| {
        let heads = [&fused_query_key_value(Slot::Stream), TURN].concat();
        let attention = [&heads, ATTEND, ADD, ATTENTION_OUTPUT_NORM].concat();
        let feed_forward = gated(Slot::Stream, Activation::SiluGate);
        [&attention, &feed_forward[..], ADD, LAYER_OUTPUT_NORM].concat()
    },
    final_norm_name: None,
    ..Graph::PLAIN
};

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let hidden = config.count(&["n_embd", "hidden_size"])?;
    let heads = config.count(&["n_head", "num_attention_heads"])?;
    if !hidden.is_multiple_of(heads) || !(hidden / heads).is_multiple_of(2) {
        return Err(config.unusable("n_embd", "an even multiple of `n_head`").into());
    }
    let layers = config.count(&["n_layer", "num_hidden_layers"])?;
    Ok(Sizes {
        layers,
        vocab: config.count(&["vocab_size"])?,
        positions: positions(config)?,
        hidden,
        feed_forward: config.count(&["n_inner", "intermediate_size"])?,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        rotary: hidden / heads,
        dense_layers: layers,
        token_types: config.count(&["type_vocab_size"])?,
        ..Sizes::default()
    })
}

/// Returns the length of texts that the model was trained on. The published configuration names a longer one, to which its own code
/// stretches positions; the converter knows which published models these are.
fn positions(config: &Config) -> Result<u32, ArchError> {
    let Some(stretched) = config.optional_count(&["n_positions"])? else {
        return Ok(config.count(&["max_position_embeddings"])?);
    };
    let trained = config.optional_count(&["max_trained_positions"])?.unwrap_or(2048);
    match (stretched, trained) {
        (8192, 2048) => Ok(2048),
        (2048, 2048) => Ok(512),
        _ => {
            let what =
                format!("{stretched} positions, {trained} of them trained (`max_trained_positions`), are");
            Err(unsupported(config, NAME, what))
        }
    }
}
