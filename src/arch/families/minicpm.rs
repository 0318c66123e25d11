//! MiniCPM 1 and 2: Granite's multipliers under other names, without one of the attention scores.

use super::llama;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::Takes;
use crate::arch::table::text;

const NAME: &str = "minicpm";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["MiniCPMForCausalLM"],
    model_types: &["minicpm"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes::PLAIN,
    graph: &llama::GRAPH,
};

static TABLE: Table = llama::table(NAME);

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(NAME, config, sizes)?;
    let depth = f64::from(config.number(&["scale_depth"])?) / f64::from(sizes.layers).sqrt();
    keys.number("embedding_scale", config.number(&["scale_emb"])?);
    keys.number("residual_scale", depth as f32);
    keys.number(
        "logit_scale",
        (f64::from(sizes.hidden) / f64::from(config.number(&["dim_model_base"])?)) as f32,
    );
    Ok(keys)
}
