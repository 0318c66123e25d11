//! Mistral: Llama with a window in every layer. Its name in GGUF is Llama's, whose graph has no window.

use crate::arch::families::llama;
use crate::arch::table::family::Family;
use crate::arch::table::takes::{BY_FACTORS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

/// Length of the window in tokens if the configuration lacks the key, as in transformers; null stands for no window.
const WINDOW: u32 = 4096;

/// The family, as the registry lists it.
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
