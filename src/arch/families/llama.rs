//! Llama 1 to 3, Code Llama and other models with the same graph.

use crate::graph::parts::*;
use crate::graph::{Graph, Hyper, Op};
use kquant_kernels::math::Pairs;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION_OUTPUT, CACHED, GATED, NORMS, OUTSIDE, ROTARY_ATTENTION, VALUE};
use crate::arch::table::family::{Computed, Family};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{ATTENTION_BIAS, BY_FACTORS, MLP_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "llama";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &[
        "LlamaForCausalLM",
        "LLaMAForCausalLM",
        "LlamaModel",
        "IQuestCoderForCausalLM",
        "InternLM3ForCausalLM",
        "LlavaForConditionalGeneration",
        "VLlama3ForCausalLM",
        "VoxtralForConditionalGeneration",
    ],
    model_types: &["llama", "internlm3", "llava", "voxtral"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| keys(NAME, config, sizes),
    table: &TABLE,
    computed,
    takes: Takes { scalings: BY_FACTORS, biases: &[ATTENTION_BIAS, MLP_BIAS], ..Takes::PLAIN },
    graph: &GRAPH,
};

/// The table of Llama's tensors.
pub(super) static TABLE: Table = table(NAME);

/// Returns the table of tensors of families that differ from Llama only in keys.
pub(super) const fn table(family: &'static str) -> Table {
    Table {
        family,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, NORMS, ROTARY_ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
    }
}

/// The forward pass, which mixtures with the same name in GGUF share.
pub(super) static GRAPH: Graph = Graph { layer, pairs: Pairs::Adjacent, ..Graph::PLAIN };

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD, FEED_FORWARD_NORM, feed_forward(hyper, number), ADD]
        .concat()
}

/// Returns the keys of families that differ from Llama in a few keys.
pub(super) fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(name, config, sizes)?;
    keys.count("vocab_size", sizes.vocab);
    keys.count("rope.dimension_count", sizes.head_dim);
    Ok(keys)
}

/// Returns Llama 3's frequency factors, if the configuration asks for them.
pub(super) fn computed(config: &Config, sizes: &Sizes) -> Result<Computed, ArchError> {
    let factors = Rope::read(config, sizes.positions)?.factors(sizes.head_dim);
    Ok(factors.map(|factors| ("rope_freqs.weight", factors)).into_iter().collect())
}
