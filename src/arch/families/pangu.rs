//! openPangu Embedded: Qwen 2 with a bias of attention's output.

use super::qwen2;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Biases, Takes};
use crate::arch::table::text;

const NAME: &str = "pangu-embedded";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["PanguEmbeddedForCausalLM"],
    model_types: &["PanguEmbedded"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.count("vocab_size", sizes.vocab);
        keys.count("rope.dimension_count", sizes.head_dim);
        if config.optional_count(&["head_dim"])?.is_none() {
            text::head_widths(&mut keys, sizes);
        }
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes { biases: &[Biases { flag: "bias", names: ATTENTION_BIAS.names }], ..Takes::PLAIN },
    graph: &qwen2::GRAPH,
};

static TABLE: Table = qwen2::table(NAME);
