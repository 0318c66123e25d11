//! Falcon H1: attention and a Mamba 2 state space side by side in each layer, and factors that the converter multiplies into weights.

use serde_json::json;

use crate::graph::parts::*;
use crate::graph::{Graph, Op};
use crate::tensor::RowFactors;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{Multipliers, ScanSizes, Sizes};
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::LayerSet;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::state_space::{state_space, with_scan_of_any_width};
use crate::arch::table::takes::{Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "falcon-h1";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["FalconH1ForCausalLM"],
    model_types: &["falcon_h1"],
    sizes,
    keys,
    table: &Table {
        family: NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, NORMS, ATTENTION_LAYERS, STATE_SPACE, FEED_FORWARD],
    },
    computed: nothing,
    takes: Takes {
        scalings: &["default"],
        only: &[
            Only { key: "attention_bias", value: Literal::Flag(false) },
            Only { key: "mamba_proj_bias", value: Literal::Flag(false) },
            Only { key: "mlp_bias", value: Literal::Flag(false) },
            Only { key: "projectors_bias", value: Literal::Flag(false) },
        ],
        ..Takes::PLAIN
    },
    graph: &Graph {
        layer: |_, _| {
            let mixers = [ATTENTION_NORM, MAMBA, ADD, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
            [&mixers, FEED_FORWARD_NORM, SILU, ADD].concat::<Op>()
        },
        optional: &["ssm_norm"],
        ..Graph::PLAIN
    },
};

/// Returns factors of all rows.
fn all(by: &[f32]) -> Vec<RowFactors> {
    vec![RowFactors { rows: 0..u64::MAX, by: by.to_vec() }]
}

const OUTSIDE: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden])
        .times(|sizes| all(&[sizes.multipliers.embedding])),
    Entry::new("final_layernorm.weight", "output_norm.weight", &[Hidden]),
    Entry::new("lm_head.weight", "output.weight", &[Vocab, Hidden])
        .times(|sizes| all(&[sizes.multipliers.output])),
];

const NORMS: &[Entry] = &[
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    // Readers of the file look for it under this name.
    Entry::new("layers.{}.pre_ff_layernorm.weight", "blk.{}.ffn_norm", &[Hidden]),
];

const ATTENTION_LAYERS: &[Entry] = &[
    ATTENTION[0].times(|sizes| all(&[sizes.multipliers.attention_in])),
    ATTENTION[1].times(|sizes| all(&[sizes.multipliers.keys, sizes.multipliers.attention_in])),
    VALUE[0].times(|sizes| all(&[sizes.multipliers.attention_in])),
    ATTENTION_OUTPUT[0].times(|sizes| all(&[sizes.multipliers.attention_out])),
];

const STATE_SPACE: &[Entry] = &{
    let [rate, skip, bias, kernel, step, input, norm, output] = *state_space!("layers.{}.mamba.");
    [
        rate,
        skip,
        bias,
        kernel,
        step,
        input.times(input_factors),
        norm.only(|sizes| sizes.scan_norm),
        output.times(|sizes| all(&[sizes.multipliers.scan_out])),
    ]
};

/// Returns the factors of the rows that give gate, values, keys, queries and steps.
fn input_factors(sizes: &Sizes) -> Vec<RowFactors> {
    let Multipliers { scan_in, scan_parts, .. } = sizes.multipliers;
    let (inner, keys) = (u64::from(sizes.scan.inner()), sizes.scan.keys());
    let mut first = 0;
    let mut factors = Vec::new();
    for (part, width) in scan_parts.into_iter().zip([inner, inner, keys, keys, sizes.scan.heads.into()]) {
        factors.push(RowFactors { rows: first..first + width, by: vec![scan_in, part] });
        first += width;
    }
    factors
}

const FEED_FORWARD: &[Entry] = &[
    Entry::new("layers.{}.feed_forward.gate_proj.weight", "blk.{}.ffn_gate.weight", &[FeedForward, Hidden])
        .times(|sizes| all(&[sizes.multipliers.gate])),
    Entry::new("layers.{}.feed_forward.up_proj.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("layers.{}.feed_forward.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward])
        .times(|sizes| all(&[sizes.multipliers.down])),
];

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let refuse = |what: &str| Err(unsupported(config, NAME, what.to_owned()));
    if config.optional_flag("tie_word_embeddings")? == Some(true) {
        return refuse("an output that is the embedding (`tie_word_embeddings`), whose factors differ, is");
    }
    let scan_norm = config.optional_flag("mamba_rms_norm")?.unwrap_or(false);
    // The default is transformers'.
    if config.optional_flag("mamba_norm_before_gate")?.unwrap_or(true) && scan_norm {
        return refuse("a norm before the gate (`mamba_norm_before_gate`) is");
    }
    for key in ["mamba_expand", "mamba_conv_bias", "mamba_use_mlp", "num_logits_to_keep"] {
        config.value(key);
    }
    let sizes = text::plain_sizes(config, NAME)?;
    let heads = config.count(&["mamba_n_heads"])?;
    let value = config.count(&["mamba_d_head"])?;
    let scan = ScanSizes {
        heads,
        groups: config.count(&["mamba_n_groups"])?,
        state: config.count(&["mamba_d_state"])?,
        value,
    };
    let inner = config.optional_count(&["mamba_d_ssm"])?;
    if inner.is_some_and(|inner| inner != scan.inner()) {
        return Err(config
            .unusable("mamba_d_ssm", "the width of all heads (`mamba_d_head`) together")
            .into());
    }
    let sizes = Sizes {
        kernel: config.count(&["mamba_d_conv"])?,
        recurrent: LayerSet::of(|_| true),
        multipliers: multipliers(config)?,
        scan_norm,
        ..sizes
    };
    with_scan_of_any_width(config, sizes, scan)
}

fn multipliers(config: &Config) -> Result<Multipliers, ArchError> {
    let one = |key: &str| Ok::<_, ArchError>(config.optional_number(&[key])?.unwrap_or(1.0));
    let several = |key: &'static str, count: usize| match config.optional_numbers(key)? {
        None => Ok(vec![1.0; count]),
        Some(list) if list.len() == count => Ok(list),
        Some(_) => Err(ArchError::from(config.unusable(key, "a list of a number for each part"))),
    };
    let (parts, network) = (several("ssm_multipliers", 5)?, several("mlp_multipliers", 2)?);
    Ok(Multipliers {
        embedding: one("embedding_multiplier")?,
        output: one("lm_head_multiplier")?,
        attention_in: one("attention_in_multiplier")?,
        attention_out: one("attention_out_multiplier")?,
        keys: one("key_multiplier")?,
        scan_in: one("ssm_in_multiplier")?,
        scan_parts: std::array::from_fn(|part| parts[part]),
        scan_out: one("ssm_out_multiplier")?,
        gate: network[0],
        down: network[1],
    })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("attention.head_count", sizes.heads);
    keys.count("block_count", sizes.layers);
    keys.count("ssm.conv_kernel", sizes.kernel);
    keys.count("ssm.inner_size", sizes.scan.inner());
    keys.count("ssm.state_size", sizes.scan.state);
    keys.count("ssm.time_step_rank", sizes.scan.heads);
    keys.count("ssm.group_count", sizes.scan.groups);
    text::epsilon(&config.or(json!({ "rms_norm_eps": 1e-5 })), &mut keys)?;
    keys.count("vocab_size", sizes.vocab);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    text::head_widths(&mut keys, sizes);
    keys.number("rope.freq_base", Rope::read(config, sizes.positions)?.theta);
    Ok(keys)
}
