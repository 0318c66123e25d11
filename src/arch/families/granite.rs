//! Granite: Llama with embeddings, scores, sums and logits that are scaled.

use super::llama;
use crate::arch::table::family::Family;
use crate::arch::table::mapping::Table;
use crate::arch::table::text;

const NAME: &str = "granite";

/// The family.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GraniteForCausalLM"],
    model_types: &["granite"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = llama::keys(NAME, config, sizes)?;
        for (key, name) in [
            ("attention.scale", "attention_multiplier"),
            ("embedding_scale", "embedding_multiplier"),
            ("residual_scale", "residual_multiplier"),
            ("logit_scale", "logits_scaling"),
        ] {
            keys.optional_number(key, config.optional_number(&[name])?);
        }
        Ok(keys)
    },
    table: &TABLE,
    computed: llama::computed,
    graph: &llama::GRAPH,
};

static TABLE: Table = llama::table(NAME);
