//! XVERSE: Llama under another name.

use super::llama;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{HeadPlace, Takes};
use crate::arch::table::text;

const NAME: &str = "xverse";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["XverseForCausalLM"],
    model_types: &["xverse"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.add("tensor_data_layout", "Meta AI original pth".into());
        keys.count("rope.dimension_count", sizes.head_dim);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes { head: HeadPlace::Own, ..Takes::PLAIN },
    graph: &llama::GRAPH,
};

static TABLE: Table = llama::table(NAME);
