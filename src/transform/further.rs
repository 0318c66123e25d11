//! Blocks after the last layer, which predict further tokens and are kept as they are.

use kquant_formats::gguf::{Metadata, Value};

/// What is said of a model that cannot be cut because of them.
pub(super) const FURTHER: &str = "the model has blocks after its last layer that predict further tokens \
    (`*.nextn_predict_layers`), which nothing is cut of: they would not fit what is left";

/// Returns true if the keys count blocks that predict further tokens.
pub(super) fn has_further(metadata: &Metadata) -> bool {
    let mut keys = metadata.iter();
    keys.any(|(key, value)| {
        key.ends_with(".nextn_predict_layers") && Value::as_u64(value).is_some_and(|n| n > 0)
    })
}
