//! Tencent's Hunyuan with a mixture of experts, of which one serves all tokens.

use super::hunyuan::{GRAPH, LATE_NORMS, TAKES, raised_base};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, MIXTURE, NORMS, OUTSIDE, VALUE, shared,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "hunyuan-moe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["HunYuanMoEV1ForCausalLM"],
    model_types: &["hunyuan_v1_moe"],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        only: &[
            Only { key: "use_qk_norm", value: Literal::Flag(true) },
            Only { key: "use_cla", value: Literal::Flag(false) },
            Only { key: "use_mixed_mlp_moe", value: Literal::Flag(true) },
            Only { key: "norm_topk_prob", value: Literal::Flag(true) },
            Only { key: "moe_layer_num_skipped", value: Literal::Number(0.0) },
        ],
        ..TAKES
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[
        OUTSIDE,
        NORMS,
        ATTENTION,
        VALUE,
        ATTENTION_OUTPUT,
        LATE_NORMS,
        &[ROUTER, MIXTURE[1], MIXTURE[2], MIXTURE[3]],
        &SHARED,
    ],
};

const ROUTER: Entry =
    Entry::new("layers.{}.mlp.gate.wg.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden]).always_f32();

const SHARED: [Entry; 3] = shared(
    "layers.{}.mlp.shared_mlp.gate_proj.weight",
    "layers.{}.mlp.shared_mlp.up_proj.weight",
    "layers.{}.mlp.shared_mlp.down_proj.weight",
);

/// Returns the number under `key`, which may be a list with the same number for each layer.
fn each_layers(config: &Config, key: &str) -> Result<Option<u32>, ArchError> {
    if !config.value(key).is_some_and(serde_json::Value::is_array) {
        return Ok(config.optional_count(&[key])?);
    }
    let list = config.optional_counts(key)?.unwrap_or_default();
    match list.first().and_then(|&first| u32::try_from(first).ok()) {
        Some(first) if list.iter().all(|&n| n == u64::from(first)) => Ok(Some(first)),
        _ => Err(unsupported(config, NAME, format!("layers that differ (`{key}`) are"))),
    }
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::sizes(config)?;
    text::whole_heads(config, NAME, &sizes)?;
    let shared = each_layers(config, "num_shared_expert")?.unwrap_or(1);
    Ok(Sizes {
        experts: config.count(&["num_experts"])?,
        experts_used: each_layers(config, "moe_topk")?.ok_or_else(|| config.missing(&["moe_topk"]))?,
        expert_feed_forward: each_layers(config, "moe_intermediate_size")?.unwrap_or(sizes.feed_forward),
        shared_feed_forward: sizes.feed_forward.saturating_mul(shared),
        dense_layers: 0,
        ..sizes
    })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(NAME, config, sizes)?;
    keys.remove("expert_used_count");
    keys.count("expert_shared_feed_forward_length", sizes.feed_forward);
    keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
    keys.count("expert_used_count", sizes.experts_used);
    keys.count("expert_shared_count", each_layers(config, "num_shared_expert")?.unwrap_or(1));
    raised_base(config, sizes, &mut keys)?;
    Ok(keys)
}
