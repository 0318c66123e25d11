//! The language models of Qwen 2 VL, 2.5 VL and 3 VL: Qwen 2 and 3 whose positions have three directions, which are one for text.
//! What sees is left out.

use super::qwen3_5::sections;
use super::{qwen2, qwen3, qwen3_moe};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, HEAD_NORMS, MIXTURE, NORMS, OUTSIDE, VALUE, experts_by_input,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const SECOND: &str = "qwen2vl";
const THIRD: &str = "qwen3vl";
const MIXED: &str = "qwen3vlmoe";

/// Qwen 2 VL and 2.5 VL, as the registry lists them.
pub(super) static SECOND_FAMILY: Family = Family {
    name: SECOND,
    classes: &["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen2VLModel"],
    model_types: &["qwen2_vl", "qwen2_5_vl"],
    sizes: |config| text::plain_sizes(config, SECOND),
    keys: |config, sizes| keys(SECOND, config, sizes),
    table: &SECOND_TABLE,
    computed: nothing,
    takes: Takes { window: Window::LaterIfUsed, ..Takes::PLAIN },
    graph: &qwen2::GRAPH,
};

/// Qwen 3 VL, as the registry lists it.
pub(super) static THIRD_FAMILY: Family = Family {
    name: THIRD,
    classes: &["Qwen3VLForConditionalGeneration"],
    model_types: &["qwen3_vl"],
    sizes: |config| text::plain_sizes(config, THIRD),
    keys: |config, sizes| {
        let mut keys = keys(THIRD, config, sizes)?;
        deepstack(config, &mut keys)?;
        Ok(keys)
    },
    table: &THIRD_TABLE,
    computed: nothing,
    takes: Takes { biases: &[ATTENTION_BIAS], ..Takes::PLAIN },
    graph: &qwen3::GRAPH,
};

/// Qwen 3 VL with a mixture of experts, as the registry lists it.
pub(super) static MIXTURE_FAMILY: Family = Family {
    name: MIXED,
    classes: &["Qwen3VLMoeForConditionalGeneration"],
    model_types: &["qwen3_vl_moe"],
    sizes: |config| qwen3_moe::sizes(config, MIXED),
    keys: |config, sizes| {
        let mut keys = keys(MIXED, config, sizes)?;
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        deepstack(config, &mut keys)?;
        Ok(keys)
    },
    table: &MIXTURE_TABLE,
    computed: nothing,
    takes: Takes { biases: &[ATTENTION_BIAS], ..Takes::PLAIN },
    graph: &qwen3_moe::GRAPH,
};

static SECOND_TABLE: Table = qwen2::table(SECOND);
static THIRD_TABLE: Table = qwen3::table(THIRD);
static MIXTURE_TABLE: Table = Table {
    family: MIXED,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, HEAD_NORMS, &[MIXTURE[0]], &EXPERTS],
};

const EXPERTS: [Entry; 3] =
    experts_by_input("layers.{}.mlp.experts.down_proj", "layers.{}.mlp.experts.gate_up_proj");

fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(name, config, sizes)?;
    sections(config, &mut keys)?;
    Ok(keys)
}

/// Adds the number of layers that read what was seen, which the file with the vision tower needs.
fn deepstack(config: &Config, keys: &mut Keys) -> Result<(), ArchError> {
    let vision = config.optional_section(&["vision_config"])?;
    let layers =
        vision.map(|vision| vision.optional_counts("deepstack_visual_indexes")).transpose()?.flatten();
    keys.count("n_deepstack_layers", layers.map_or(0, |layers| layers.len() as u32));
    Ok(())
}
