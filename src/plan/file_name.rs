//! The name that GGUF's rule gives a file: `Llama-3.2-1B-Instruct-Q4_K_M.gguf` and the like.

use kquant_formats::gguf::{Metadata, Value};

/// Returns `BaseName-SizeLabel-FineTune-Version-Encoding.gguf` of the keys that `metadata` has, as the specification of GGUF names files and
/// llama.cpp's converter does; `encoding` is the file type. Without a base name the model's whole name stands in its place.
pub(super) fn file_name(metadata: &Metadata, encoding: &str) -> String {
    let text = |key: &str| match metadata.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(plain(text)),
        _ => None,
    };
    let base = text("general.basename").or_else(|| text("general.name")).unwrap_or_else(|| "model".into());
    let keys = ["general.size_label", "general.finetune", "general.version"];
    let mut name = base;
    for part in keys.into_iter().filter_map(text).chain([plain(&encoding.to_uppercase())]) {
        name.push('-');
        name.push_str(&part);
    }
    name + ".gguf"
}

/// Returns `text` with `-` in the place of what has no place in a file's name: blanks, separators and control characters.
fn plain(text: &str) -> String {
    let of = |c: char| match c {
        '/' | '\\' | ':' => '-',
        c if c.is_whitespace() || c.is_control() => '-',
        c => c,
    };
    text.trim().chars().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(keys: &[(&str, &str)], encoding: &str) -> String {
        let mut metadata = Metadata::new();
        for (key, value) in keys {
            metadata.set(format!("general.{key}"), Value::String((*value).into()));
        }
        file_name(&metadata, encoding)
    }

    #[test]
    fn names_follow_the_rule_of_gguf() {
        let of = [("name", "Llama 3.2 1B Instruct"), ("basename", "Llama-3.2"), ("size_label", "1B")];
        let all = [&of[..], &[("finetune", "Instruct"), ("version", "v1.0")]].concat();
        assert_eq!(named(&all, "Q4_K_M"), "Llama-3.2-1B-Instruct-v1.0-Q4_K_M.gguf");
        assert_eq!(named(&of[1..], "q8_0"), "Llama-3.2-1B-Q8_0.gguf");
        assert_eq!(named(&of[..1], "BF16"), "Llama-3.2-1B-Instruct-BF16.gguf");
        assert_eq!(named(&[], "F16"), "model-F16.gguf");
    }

    #[test]
    fn no_name_leads_to_another_folder() {
        assert_eq!(named(&[("name", "../a b\\c:d\n"), ("version", " ")], "F16"), "..-a-b-c-d-F16.gguf");
    }
}
