//! The `general.*` keys of a model that was made of another one.

use kquant_formats::gguf::{Metadata, Value};

use super::parents::{self, FIELDS, Parent};
use super::size_label::size_label_of;
use crate::tensor::MappedTensor;

/// Key of the number of weights that some programs write.
const PARAMETERS: &str = "general.parameter_count";

/// Starts of the keys of base models.
const BASES: &str = "general.base_model.";

/// Fields that say where a model itself is found, which is not where models made of it are.
const PLACES: [&str; 4] = ["url", "doi", "uuid", "repo_url"];

/// Returns `metadata` with the size of `tensors`, and with the model that the keys described so far as the base model.
///
/// A model that names its base in the keys that `kquant prune` writes keeps that base: it is the original. Keys are those of
/// llama.cpp's converter.
pub fn derived(metadata: &Metadata, tensors: &[MappedTensor], keeps_base: bool) -> Metadata {
    let base = if keeps_base { Parent::new() } else { described(metadata) };
    let mut out = Metadata::new();
    for (key, value) in metadata.iter() {
        let moved = PLACES.iter().any(|field| key.strip_prefix("general.") == Some(field));
        if !keeps_base && (moved || key.starts_with(BASES)) {
            continue;
        }
        out.set(key, value.clone());
    }
    out.set("general.size_label", Value::String(size_label_of(tensors)));
    if metadata.get(PARAMETERS).is_some() {
        let weights = tensors.iter().map(MappedTensor::weights).fold(0, u64::saturating_add);
        out.set(PARAMETERS, Value::U64(weights));
    }
    if !base.is_empty() {
        parents::write("base_model", &[base], &mut out);
    }
    out
}

/// Returns what the keys say of the model itself; its place is that of the source where it has none of its own.
fn described(metadata: &Metadata) -> Parent {
    let text = |key: String| metadata.get(&key).and_then(Value::as_str).map(str::to_owned);
    let field = |&field: &&'static str| {
        let own = text(format!("general.{field}")).or_else(|| text(format!("general.source.{field}")))?;
        Some((field, own))
    };
    FIELDS.iter().filter_map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Keep, Source};

    #[test]
    fn a_model_becomes_the_base_of_what_is_made_of_it() {
        let mut metadata = Metadata::new();
        for (key, value) in [
            ("general.architecture", "llama"),
            ("general.name", "Big Model"),
            ("general.size_label", "7B"),
            ("general.organization", "Somebody"),
            ("general.uuid", "1-2-3"),
            ("general.source.url", "https://example.org"),
            ("general.base_model.0.name", "Older"),
            ("general.base_model.0.version", "v1"),
        ] {
            metadata.set(key, Value::from(value));
        }
        metadata.set(PARAMETERS, Value::U64(7));
        let tensor = MappedTensor {
            name: "output.weight".to_owned(),
            shape: vec![1000, 152],
            source: Source::Values(Vec::new()),
            keep: Keep::Source,
        };
        let first = derived(&metadata, std::slice::from_ref(&tensor), false);
        let text = |keys: &Metadata, key: &str| keys.get(key).and_then(Value::as_str).map(str::to_owned);
        for (key, expected) in [
            ("general.name", Some("Big Model")),
            ("general.size_label", Some("152K")),
            ("general.uuid", None),
            ("general.base_model.0.name", Some("Big Model")),
            ("general.base_model.0.organization", Some("Somebody")),
            ("general.base_model.0.uuid", Some("1-2-3")),
            ("general.base_model.0.url", Some("https://example.org")),
            ("general.base_model.0.version", None),
        ] {
            assert_eq!(text(&first, key).as_deref(), expected, "{key}");
        }
        assert_eq!(first.get("general.base_model.count"), Some(&Value::U32(1)));
        assert_eq!(first.get(PARAMETERS), Some(&Value::U64(152_000)));
        let again = derived(&first, &[], true);
        assert_eq!(text(&again, "general.base_model.0.uuid").as_deref(), Some("1-2-3"));
        assert_eq!(text(&again, "general.size_label").as_deref(), Some("0.00K"));
    }
}
