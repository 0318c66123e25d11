//! Mamba 2: a state space in every layer, and neither attention nor a feed-forward network.

use crate::graph::Graph;
use crate::graph::parts::*;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{ScanSizes, Sizes};
use crate::arch::table::entries::OUTPUT;
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::LayerSet;
use crate::arch::table::mapping::Table;
use crate::arch::table::state_space::{state_space, with_scan};
use crate::arch::table::takes::{Literal, Only, Takes};

const NAME: &str = "mamba2";

/// The context that the converter writes: the model has no bound.
const CONTEXT: u32 = 1 << 20;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Mamba2ForCausalLM"],
    model_types: &["mamba2"],
    sizes,
    keys,
    table: &Table {
        family: NAME,
        prefix: "backbone.",
        ignored: &[],
        entries: &[OUTSIDE, state_space!("layers.{}.mixer.")],
    },
    computed: nothing,
    takes: Takes {
        scalings: &[],
        // Readers of the file ask for the bias of the convolution and have no other.
        only: &[
            Only { key: "use_bias", value: Literal::Flag(false) },
            Only { key: "use_conv_bias", value: Literal::Flag(true) },
        ],
        ..Takes::PLAIN
    },
    graph: &Graph { layer: |_, _| [ATTENTION_NORM, MAMBA, ADD].concat(), ..Graph::PLAIN },
};

const OUTSIDE: &[Entry] = &[
    Entry::new("embeddings.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("norm_f.weight", "output_norm.weight", &[Hidden]),
    OUTPUT,
    Entry::new("layers.{}.norm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
];

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let layers = config.count(&["num_hidden_layers"])?;
    let hidden = config.count(&["hidden_size"])?;
    // The defaults are the converter's.
    let count = |key: &str, default: u32| -> Result<u32, ArchError> {
        Ok(config.optional_count(&[key])?.unwrap_or(default))
    };
    let expand = count("expand", 2)?;
    let value = count("head_dim", 64)?;
    let scan = ScanSizes {
        heads: count("num_heads", expand.saturating_mul(hidden) / value)?,
        groups: count("n_groups", 1)?,
        state: count("state_size", 128)?,
        value,
    };
    let sizes = Sizes {
        layers,
        hidden,
        vocab: config.count(&["vocab_size"])?,
        positions: CONTEXT,
        dense_layers: layers,
        kernel: count("conv_kernel", 4)?,
        recurrent: LayerSet::of(|_| true),
        ..Sizes::default()
    };
    with_scan(config, sizes, scan, (expand, "expand"))
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    // Readers of the file ask for these two.
    keys.count("feed_forward_length", 0);
    keys.count("attention.head_count", 0);
    keys.count("block_count", sizes.layers);
    keys.count("ssm.conv_kernel", sizes.kernel);
    keys.count("ssm.inner_size", sizes.scan.inner());
    keys.count("ssm.state_size", sizes.scan.state);
    keys.count("ssm.time_step_rank", sizes.scan.heads);
    keys.count("ssm.group_count", sizes.scan.groups);
    let epsilon = config.optional_number(&["layer_norm_epsilon", "rms_norm_eps"])?.unwrap_or(1e-5);
    keys.number("attention.layer_norm_rms_epsilon", epsilon);
    Ok(keys)
}
