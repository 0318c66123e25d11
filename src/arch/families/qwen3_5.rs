//! Qwen 3.5: gated delta nets in most layers and gated attention in the others.
//!
//! In GGUF the heads of values are in another order where several share a head of keys: those of different heads of keys
//! take turns. Layers that predict further tokens are blocks after the last, which the forward pass does not run.

use crate::graph::parts::*;
use crate::graph::{Graph, Hyper, Op, Slot};
use crate::tensor::{RowOrder, Selection};
use kquant_formats::gguf::{Array, Value};
use serde_json::json;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{ScanSizes, Sizes};
use crate::arch::table::entries::{ATTENTION_OUTPUT, CACHED, GATED, KEY, OUTPUT, VALUE};
use crate::arch::table::entry::{Entry, in_attention};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::{LayerSet, of_kind};
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::section;
use crate::arch::table::takes::{ATTENTION_BIAS, Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "qwen35";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"],
    model_types: &["qwen3_5_text", "qwen3_5"],
    sizes: |config| delta_sizes(config, text::sizes(&complete(config)?)?),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, &with_further(sizes))?;
        sections(config, &mut keys)?;
        delta_keys(config, sizes, &mut keys)?;
        Ok(keys)
    },
    table: &Table {
        family: NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, GATED, GATED_ATTENTION, DELTA, PROJECTIONS, FURTHER, FURTHER_GATED],
    },
    computed: nothing,
    takes: TAKES,
    graph: &Graph { layer, further: true, ..Graph::PLAIN },
};

/// The values that both the dense family and that with experts take.
pub(super) const TAKES: Takes = Takes {
    theta: Some(1e7),
    biases: &[ATTENTION_BIAS],
    only: &[
        Only { key: "attn_output_gate", value: Literal::Flag(true) },
        Only { key: "mtp_use_dedicated_embeddings", value: Literal::Flag(false) },
    ],
    ..Takes::PLAIN
};

/// Embedding, output and the norms of the stream, which the checkpoint stores as what differs from one.
pub(super) const OUTSIDE: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("norm.weight", "output_norm.weight", &[Hidden]).plus_one(),
    OUTPUT,
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]).plus_one(),
    Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight", &[Hidden])
        .plus_one(),
];

/// Attention whose output has a gate, which is projected with the queries.
pub(super) const GATED_ATTENTION: &[Entry] = &{
    let [value] = in_attention::<1>(VALUE);
    let [output] = in_attention::<1>(ATTENTION_OUTPUT);
    [
        Entry::new("layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", &[QueryAndGate, Hidden])
            .attention(),
        KEY.attention(),
        value,
        output,
        Entry::new("layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", &[Head])
            .plus_one()
            .attention(),
        Entry::new("layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", &[Head])
            .plus_one()
            .attention(),
    ]
};

/// Gated delta nets but for their projections, with the heads of values in GGUF's order.
pub(super) const DELTA: &[Entry] = &[
    Entry::new("layers.{}.linear_attn.A_log", "blk.{}.ssm_a", &[StateHeads])
        .rates(&[StateHeads], tiled)
        .recurrent(),
    Entry::new("layers.{}.linear_attn.dt_bias", "blk.{}.ssm_dt.bias", &[StateHeads])
        .part(&[StateHeads], tiled)
        .recurrent(),
    Entry::new("layers.{}.linear_attn.conv1d.weight", "blk.{}.ssm_conv1d.weight", &[Channels, One, Kernel])
        .part(&[Channels, Kernel], tiled_after_keys)
        .recurrent()
        .always_f32(),
    Entry::new("layers.{}.linear_attn.norm.weight", "blk.{}.ssm_norm.weight", &[StateValue]).recurrent(),
    Entry::new("layers.{}.linear_attn.out_proj.weight", "blk.{}.ssm_out.weight", &[Hidden, Inner])
        .selected(|sizes| Selection::of_columns(tiled_columns(sizes)))
        .recurrent(),
];

/// Projections of gated delta nets, with the heads of values in GGUF's order.
pub(super) const PROJECTIONS: &[Entry] = &[
    Entry::new("layers.{}.linear_attn.in_proj_a.weight", "blk.{}.ssm_alpha.weight", &[StateHeads, Hidden])
        .part(&[StateHeads, Hidden], tiled)
        .recurrent(),
    Entry::new("layers.{}.linear_attn.in_proj_b.weight", "blk.{}.ssm_beta.weight", &[StateHeads, Hidden])
        .part(&[StateHeads, Hidden], tiled)
        .recurrent(),
    Entry::new("layers.{}.linear_attn.in_proj_qkv.weight", "blk.{}.attn_qkv.weight", &[Channels, Hidden])
        .part(&[Channels, Hidden], tiled_after_keys)
        .recurrent(),
    Entry::new("layers.{}.linear_attn.in_proj_z.weight", "blk.{}.attn_gate.weight", &[Inner, Hidden])
        .part(&[Inner, Hidden], tiled)
        .recurrent(),
];

/// The block that predicts a further token: a layer with attention, and what it makes its input of, without its feed-forward
/// network.
pub(super) const FURTHER: &[Entry] = &[
    further("mtp.fc.weight", "blk.{}.nextn.eh_proj.weight", &[Hidden, TwoHidden]),
    further("mtp.norm.weight", "blk.{}.nextn.shared_head_norm.weight", &[Hidden]).plus_one(),
    further("mtp.pre_fc_norm_embedding.weight", "blk.{}.nextn.enorm.weight", &[Hidden]).plus_one(),
    further("mtp.pre_fc_norm_hidden.weight", "blk.{}.nextn.hnorm.weight", &[Hidden]).plus_one(),
    further("mtp.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]).plus_one(),
    further("mtp.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight", &[Hidden])
        .plus_one(),
    further("mtp.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", &[QueryAndGate, Hidden]),
    further("mtp.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", &[KeyValue, Hidden]),
    further("mtp.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight", &[KeyValue, Hidden]),
    further("mtp.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
    further("mtp.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", &[Head]).plus_one(),
    further("mtp.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", &[Head]).plus_one(),
];

/// The feed-forward network of that block.
const FURTHER_GATED: &[Entry] = &[
    further("mtp.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", &[FeedForward, Hidden]),
    further("mtp.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    further("mtp.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
];

const fn further(
    from: &'static str,
    to: &'static str,
    shape: &'static [crate::arch::table::dims::Dim],
) -> Entry {
    Entry::new(from, to, shape).further()
}

/// Returns the order of rows in which the heads of values that read the same keys are apart.
fn tiled(sizes: &Sizes) -> RowOrder {
    regrouped(sizes, 0)
}

/// Returns the same order behind queries and keys, which stay.
fn tiled_after_keys(sizes: &Sizes) -> RowOrder {
    regrouped(sizes, sizes.scan.keys().saturating_mul(2))
}

fn regrouped(sizes: &Sizes, kept: u64) -> RowOrder {
    let ScanSizes { heads, groups, .. } = sizes.scan;
    RowOrder::Tiled { kept, parts: (heads / groups.max(1)).into(), groups: groups.into() }
}

/// Returns the columns that belong to the rows of [`tiled`].
fn tiled_columns(sizes: &Sizes) -> Vec<u32> {
    let (order, inner) = (tiled(sizes), sizes.scan.inner());
    (0..inner)
        .filter_map(|column| order.source(column.into(), inner.into()))
        .map(|column| column as u32)
        .collect()
}

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    let mixer = if hyper.is_recurrent(number) { DELTA_NET } else { ATTEND_GATED };
    let norm = [rms(Slot::Stream, Slot::Normed, "post_attention_norm")];
    [ATTENTION_NORM, mixer, ADD, &norm, SILU, ADD].concat()
}

/// Returns the configuration with transformers' part of a head that RoPE rotates, if it gives none.
pub(super) fn complete(config: &Config) -> Result<Config, ArchError> {
    match text::partial(config)? {
        Some(_) => Ok(config.clone()),
        None => Ok(config.or(json!({ "partial_rotary_factor": 0.25 }))),
    }
}

/// Returns `sizes` with the dimensions of the gated delta nets, the layers that have one, and the layers that predict further
/// tokens.
pub(super) fn delta_sizes(config: &Config, sizes: Sizes) -> Result<Sizes, ArchError> {
    config.value("mamba_ssm_dtype");
    let scan = ScanSizes {
        heads: config.count(&["linear_num_value_heads"])?,
        groups: config.count(&["linear_num_key_heads"])?,
        state: config.count(&["linear_key_head_dim"])?,
        value: config.count(&["linear_value_head_dim"])?,
    };
    if !scan.heads.is_multiple_of(scan.groups) {
        return Err(config.unusable("linear_num_key_heads", "a divisor of `linear_num_value_heads`").into());
    }
    if scan.state != scan.value {
        return Err(config
            .unusable("linear_value_head_dim", "equal to `linear_key_head_dim`, as in readers of the file")
            .into());
    }
    let interval = config.optional_count(&["full_attention_interval"])?.unwrap_or(4) as usize;
    let listed = of_kind(config, sizes.layers, (&["linear_attention"], &["full_attention"]))?;
    let recurrent = listed.unwrap_or_else(|| LayerSet::of(|layer| !(layer + 1).is_multiple_of(interval)));
    let further_layers = config.optional_integer(&["mtp_num_hidden_layers"])?.map_or(0, |n| n.max(0) as u32);
    Ok(Sizes { kernel: config.count(&["linear_conv_kernel_dim"])?, scan, recurrent, further_layers, ..sizes })
}

/// Returns `sizes` with the layers that predict further tokens among the layers, as the key of their number counts them.
pub(super) fn with_further(sizes: &Sizes) -> Sizes {
    Sizes { layers: sizes.layers.saturating_add(sizes.further_layers), ..*sizes }
}

/// Adds the numbers of rotary pairs for each direction of images, which text turns alike.
pub(super) fn sections(config: &Config, keys: &mut Keys) -> Result<(), ArchError> {
    let rope = section(config)?;
    let given = rope.as_ref().map(|rope| {
        rope.value("mrope_interleaved");
        rope.optional_counts("mrope_section")
    });
    let mut sections = given.transpose()?.flatten().unwrap_or_else(|| vec![11, 11, 10]);
    sections.resize(4, 0);
    let sections = sections.into_iter().map(|n| i32::try_from(n).unwrap_or(i32::MAX)).collect();
    keys.insert("rope.freq_base", "rope.dimension_sections", Value::Array(Array::I32(sections)));
    Ok(())
}

/// Adds the keys of gated delta nets and of the layers that have one.
pub(super) fn delta_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<(), ArchError> {
    if sizes.further_layers > 0 {
        keys.count("nextn_predict_layers", sizes.further_layers);
    }
    keys.count("ssm.conv_kernel", sizes.kernel);
    keys.count("ssm.state_size", sizes.scan.state);
    keys.count("ssm.group_count", sizes.scan.groups);
    keys.count("ssm.time_step_rank", sizes.scan.heads);
    keys.count("ssm.inner_size", sizes.scan.inner());
    let layers = sizes.recurrent.list(sizes.layers).chain((0..sizes.further_layers).map(|_| false));
    keys.add("attention.recurrent_layers", Value::Array(Array::Bool(layers.collect())));
    // Readers take the list; without the interval it is that of the first layer with attention.
    let first = sizes.recurrent.list(sizes.layers).position(|recurrent| !recurrent);
    let interval = config.optional_count(&["full_attention_interval"])?;
    let interval = interval.unwrap_or_else(|| first.map_or(4, |first| first as u32 + 1));
    keys.count("full_attention_interval", interval);
    keys.count("rope.dimension_count", sizes.rotary);
    Ok(())
}
