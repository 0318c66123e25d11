//! OLMo 3: OLMo 2 with a window in the layers that a list names, whose positions are not stretched. Its name in GGUF is OLMo 2's.

use super::olmo2;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{ATTENTION_BIAS, HeadPlace, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::{Window, layers_with_windows};

const NAME: &str = "olmo2";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Olmo3ForCausalLM"],
    model_types: &["olmo3"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys,
    table: &olmo2::TABLE,
    computed: nothing,
    takes: Takes {
        window: Window::Written { base: true },
        biases: &[ATTENTION_BIAS],
        head: HeadPlace::Own,
        ..Takes::PLAIN
    },
    graph: &olmo2::GRAPH,
};

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let base = Rope::read(config, sizes.positions)?.theta;
    let mut keys = text::keys(NAME, &config.or(serde_json::json!({ "rope_local_base_freq": base })), sizes)?;
    keys.count("attention.sliding_window", config.count(&["sliding_window"])?);
    let listed = layers_with_windows(config, sizes, olmo2::PATTERN as u64)?;
    keys.flags("attention.sliding_window_pattern", listed);
    Ok(keys)
}
