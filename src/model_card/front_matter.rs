//! The YAML at the top of a card, from which Hugging Face makes links, filters and the license's badge.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::CardOptions;

/// Tasks of models that llama.cpp runs, which converters put among the tags.
const TASKS: [&str; 8] = [
    "text-generation",
    "image-text-to-text",
    "any-to-any",
    "audio-text-to-text",
    "feature-extraction",
    "sentence-similarity",
    "text-ranking",
    "text2text-generation",
];

/// Returns the front matter with its two lines `---`.
pub(super) fn front_matter(metadata: &Metadata, bases: &[String], options: &CardOptions) -> String {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    let tags = words(metadata, "general.tags");
    let task = tags.iter().find(|tag| TASKS.contains(&tag.as_str())).map_or(TASKS[0], String::as_str);
    let mut yaml = Yaml("---\n".to_owned());
    yaml.list("base_model", bases);
    if !bases.is_empty() {
        yaml.text("base_model_relation", Some("quantized"));
    }
    let given = options.license.as_deref();
    yaml.text("license", given.or_else(|| text("general.license")));
    if given.is_none() {
        yaml.text("license_name", text("general.license.name"));
        yaml.text("license_link", text("general.license.link"));
    }
    yaml.list("language", &words(metadata, "general.languages"));
    yaml.text("library_name", Some("gguf"));
    yaml.text("pipeline_tag", Some(task));
    yaml.text("quantized_by", options.quantized_by.as_deref());
    let mut all = vec!["gguf".to_owned(), "kquant".to_owned()];
    for tag in tags.iter().filter(|tag| *tag != task) {
        if !all.contains(tag) {
            all.push(tag.clone());
        }
    }
    yaml.list("tags", &all);
    yaml.0 + "---\n"
}

/// Returns the texts of the list at `key`.
fn words(metadata: &Metadata, key: &str) -> Vec<String> {
    match metadata.get(key) {
        Some(Value::Array(Array::String(words))) => words.clone(),
        _ => Vec::new(),
    }
}

/// YAML that grows by a key at a time.
struct Yaml(String);

impl Yaml {
    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0 += &format!("{key}: {}\n", scalar(value));
        }
    }

    fn list(&mut self, key: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        self.0 += &format!("{key}:\n");
        values.iter().for_each(|value| self.0 += &format!("- {}\n", scalar(value)));
    }
}

/// Returns `text` so that YAML reads it as that text. Whatever is not plainly a word is quoted: `no`, `1.10`, `a: b`.
fn scalar(text: &str) -> String {
    const READ_OTHERWISE: [&str; 9] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
        && !READ_OTHERWISE.contains(&text.to_ascii_lowercase().as_str());
    // A text of JSON is one of YAML.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        for plain in ["apache-2.0", "Qwen/Qwen3-8B", "en", "text-generation"] {
            assert_eq!(scalar(plain), plain);
        }
        for quoted in ["no", "NULL", "1.10", "a: b", "- x", "a # b", "", "a\nb: c", "\"", "~"] {
            let yaml = scalar(quoted);
            assert_eq!(serde_json::from_str::<String>(&yaml).unwrap(), quoted, "{yaml}");
        }
    }
}
