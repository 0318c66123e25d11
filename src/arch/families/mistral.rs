//! Mistral: Llama with a window in every layer, under Llama's name in GGUF, which knows none.

use crate::arch::families::llama;
use crate::arch::table::family::Family;
use crate::arch::table::takes::{BY_FACTORS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

/// The window where the configuration has no key at all: transformers' default. Null means none.
const WINDOW: u32 = 4096;

/// The family.
pub(super) static FAMILY: Family = Family {
    name: "llama",
    classes: &["MistralForCausalLM"],
    model_types: &["mistral"],
    sizes: |config| text::plain_sizes(config, "llama"),
    keys: |config, sizes| llama::keys("llama", config, sizes),
    table: &llama::TABLE,
    computed: llama::computed,
    takes: Takes { scalings: BY_FACTORS, window: Window::All(Some(WINDOW)), ..Takes::PLAIN },
    graph: &llama::GRAPH,
};
