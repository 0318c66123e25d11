//! Granite: Llama with scaled embeddings, attention scores, additions to the stream and logits.

use super::llama;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::family::Family;
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, BY_FACTORS, MLP_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "granite";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GraniteForCausalLM"],
    model_types: &["granite"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| keys(NAME, config, sizes),
    table: &TABLE,
    computed: llama::computed,
    takes: Takes { scalings: BY_FACTORS, biases: &[ATTENTION_BIAS, MLP_BIAS], ..Takes::PLAIN },
    graph: &llama::GRAPH,
};

static TABLE: Table = llama::table(NAME);

/// Returns Llama's keys with the multipliers.
pub(super) fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = llama::keys(name, config, sizes)?;
    multipliers(config, &mut keys)?;
    Ok(keys)
}

/// Adds the keys of the multipliers.
pub(super) fn multipliers(config: &Config, keys: &mut Keys) -> Result<(), ArchError> {
    for (key, name) in [
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ] {
        let multiplier = config.optional_number(&[name])?;
        // Without the key, readers of the file would divide by the root of the head's width, while transformers
        // multiplies by 1.
        let default = (key == "attention.scale").then_some(1.0);
        keys.optional_number(key, multiplier.or(default));
    }
    Ok(())
}
