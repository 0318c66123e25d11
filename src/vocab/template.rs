//! Chat templates: one, or several with names.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::gguf::{Array, Metadata, Value as Kv};
use serde_json::Value;

use super::error::VocabError;
use super::files::{Files, read_json, read_text};

/// Largest number of names of chat templates.
const MOST: usize = 1000;

/// The chat templates of a model.
#[derive(Debug, PartialEq)]
pub(super) struct Templates {
    default: Option<String>,
    /// Names and templates, in the order of the files.
    named: Vec<(String, String)>,
}

impl Templates {
    /// Reads `chat_template.jinja` and the templates in `additional_chat_templates/`, else those of
    /// `tokenizer_config.json`, else those of `chat_template.json`. This is Hugging Face's order, in which the files,
    /// which fine-tuning writes anew, replace an older configuration; the converter reads the configuration first, and
    /// nothing else if its template is empty.
    pub(super) fn read(files: &Files) -> Result<Self, VocabError> {
        let default = read_text(&files.folder.join("chat_template.jinja"))?;
        let named = read_additional(&files.folder.join("additional_chat_templates"))?;
        if default.is_some() || !named.is_empty() {
            return Ok(Self { default, named }).and_then(|templates| templates.limited(&files.folder));
        }
        let configured = files.config("chat_template").filter(|value| !value.is_null());
        if let (Some(value), Some(file)) = (configured, &files.tokenizer_config) {
            return Self::parse(value, &file.path);
        }
        match read_json(files.folder.join("chat_template.json"))? {
            Some(file) => Self::parse(file.value.get("chat_template").unwrap_or(&Value::Null), &file.path),
            None => Ok(Self { default: None, named: Vec::new() }),
        }
    }

    /// Parses a text, or a list of objects with `name` and `template`.
    fn parse(value: &Value, path: &Path) -> Result<Self, VocabError> {
        let mut templates = Self { default: None, named: Vec::new() };
        match value {
            Value::Null => {}
            Value::String(text) => templates.default = Some(text.clone()),
            Value::Array(list) => {
                for entry in list {
                    let text = |key| entry.get(key).and_then(Value::as_str);
                    match (text("name"), text("template")) {
                        (Some("default"), Some(template)) => templates.default = Some(template.to_owned()),
                        (Some(name), Some(template)) if !name.is_empty() => {
                            templates.named.push((key_part(name), template.to_owned()));
                        }
                        _ => {}
                    }
                }
            }
            _ => {
                return Err(VocabError::content(
                    path,
                    "chat_template is neither a text nor a list of named texts",
                ));
            }
        }
        templates.limited(path)
    }

    /// Fails for more names than any model has, because each becomes a key of its own.
    fn limited(self, path: &Path) -> Result<Self, VocabError> {
        let names: HashSet<&str> = self.named.iter().map(|(name, _)| name.as_str()).collect();
        if names.len() > MOST {
            let what = format!("{} chat templates, where {MOST} are the most that kquant takes", names.len());
            return Err(VocabError::content(path, what));
        }
        Ok(self)
    }

    /// Sets `tokenizer.chat_template.NAME` for each name, the list of names, and the default.
    pub(super) fn write(self, out: &mut Metadata) {
        let mut names: Vec<String> = Vec::new();
        for (name, template) in self.named {
            out.set(format!("tokenizer.chat_template.{name}"), Kv::String(template));
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            out.set("tokenizer.chat_templates", Kv::Array(Array::String(names)));
        }
        if let Some(template) = self.default {
            out.set("tokenizer.chat_template", Kv::String(template));
        }
    }
}

/// Returns every `NAME.jinja` of `folder`, sorted by name, because the order of a folder is the file system's.
fn read_additional(folder: &Path) -> Result<Vec<(String, String)>, VocabError> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    paths.sort_unstable();
    let mut named = Vec::with_capacity(paths.len());
    for path in paths {
        if let (Some(name), Some(text)) = (path.file_stem(), read_text(&path)?) {
            named.push((key_part(&name.to_string_lossy()), text));
        }
    }
    Ok(named)
}

/// Returns a template's name as part of a key: letters, digits and `_`.
fn key_part(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}
