//! The `general.*` keys, which say who made a model, from what, and under which license.
//!
//! Their sources are the user's file, the model card, the configuration and the folder's name, in this order. Rules, keys
//! and order are those of llama.cpp's converter (gguf-py's `Metadata`).
//!
//! | file | what |
//! |---|---|
//! | `card` | the front matter of README.md |
//! | `derived` | the keys of a model that was made of another one |
//! | `parents` | base models and datasets |
//! | `published` | published names in the paths of files |

mod card;
mod derived;
mod metadata;
mod naming;
mod parents;
mod pooling;
mod published;
mod size_label;

use kquant_formats::gguf::{Array, Metadata, Value};

use super::config::{Config, ConfigError};
use crate::arch::general::naming::Naming;
use card::Node;
pub use card::{Card, CardError};
pub use derived::derived;
pub use metadata::{Surroundings, metadata, remove_odd_sampling};
use parents::Parent;
pub use pooling::{Pooling, pooling};
pub use published::folder_name;
pub(super) use published::is_commit;

/// A text: the end of its key, and the card's keys for it, of which the first that is set is taken.
struct Text(&'static str, &'static [&'static str]);

/// All texts, in the order of the file.
static TEXTS: &[Text] = &[
    Text("name", &["name", "model_name"]),
    Text("author", &["author", "model_author", "model_creator"]),
    Text("version", &["version", "model_version"]),
    Text("organization", &["organization", "model_organization"]),
    Text("finetune", &["finetune", "model_finetune"]),
    Text("basename", &["basename", "model_basename", "model_type"]),
    Text("description", &["description", "model_description"]),
    Text("quantized_by", &[]),
    Text("size_label", &["size_label", "model_size_label"]),
    Text("license", &["license"]),
    Text("license.name", &["license_name"]),
    Text("license.link", &["license_link"]),
    Text("url", &[]),
    Text("doi", &[]),
    Text("uuid", &[]),
    Text("repo_url", &[]),
    // The URL is the source's, because the conversion is not where the result is published.
    Text("source.url", &["url", "model_url"]),
    Text("source.doi", &["doi", "model_doi"]),
    Text("source.uuid", &["uuid", "model_uuid"]),
    Text("source.repo_url", &["repo_url", "model_repo_url"]),
];

/// A list of base models or datasets: the part of their keys, the card's keys, and the key in a user's file.
struct Parents(&'static str, [&'static str; 3], &'static str);

static PARENTS: [Parents; 2] = [
    Parents("base_model", ["base_model", "base_models", "base_model_sources"], "general.base_models"),
    Parents("dataset", ["datasets", "dataset", "dataset_sources"], "general.datasets"),
];

/// Lists of words: the end of their key, and the card's keys, whose words are joined.
static LISTS: [(&str, [&str; 2]); 2] =
    [("tags", ["tags", "pipeline_tag"]), ("languages", ["languages", "language"])];

/// The general metadata of a model.
pub(super) struct General {
    /// Values of the texts, in the order of [`TEXTS`].
    texts: Vec<Option<String>>,
    /// Values of the lists of parents, in the order of [`PARENTS`].
    parents: Vec<Option<Vec<Parent>>>,
    /// Values of the lists of words, in the order of [`LISTS`].
    lists: Vec<Option<Vec<String>>>,
}

impl General {
    /// Collects values from the card, then from the published name and the folder's; `overrides` takes precedence over
    /// all.
    fn new(card: Option<&Card>, naming: Naming, overrides: Option<&Config>, parameters: u64) -> Self {
        let get = |key: &str| card.and_then(|card| card.get(key));
        let mut texts: Vec<Option<String>> =
            TEXTS.iter().map(|Text(_, keys)| keys.iter().find_map(|key| get(key)?.text())).collect();
        let mut parents: Vec<Option<Vec<Parent>>> = PARENTS
            .iter()
            .map(|Parents(_, keys, _)| {
                Some(parents::parents(keys.iter().find_map(|key| get(key))?, parameters))
            })
            .collect();
        let list = |keys: &[&str]| -> Option<Vec<String>> {
            let found: Vec<&Node> = keys.iter().filter_map(|key| get(key)).collect();
            (!found.is_empty()).then(|| found.into_iter().flat_map(Node::texts).collect())
        };
        let mut lists: Vec<Option<Vec<String>>> = LISTS.iter().map(|(_, keys)| list(keys)).collect();

        let named = [
            ("name", naming.name),
            ("version", naming.version),
            ("organization", naming.organization),
            ("finetune", naming.finetune),
            ("basename", naming.basename),
            ("size_label", naming.size_label),
        ];
        for (key, value) in named {
            if let Some(at) = TEXTS.iter().position(|Text(end, _)| *end == key) {
                texts[at] = texts[at].take().or(value);
            }
        }
        let given = |key: &str| overrides.and_then(|file| file.value(key)).map(Node::from);
        for (text, Text(end, _)) in texts.iter_mut().zip(TEXTS) {
            if let Some(node) = given(&format!("general.{end}")) {
                *text = node.text();
            }
        }
        for (own, Parents(_, _, key)) in parents.iter_mut().zip(&PARENTS) {
            if let Some(node) = given(key) {
                *own = (node != Node::Null).then(|| parents::parents(&node, parameters));
            }
        }
        for (own, (end, _)) in lists.iter_mut().zip(LISTS) {
            if let Some(node) = given(&format!("general.{end}")) {
                *own = Some(node.texts());
            }
        }
        Self { texts, parents, lists }
    }

    /// Sets the text `key` if it has no value yet.
    pub(super) fn default_to(&mut self, key: &str, value: impl FnOnce() -> String) {
        if let Some(at) = TEXTS.iter().position(|Text(end, _)| *end == key) {
            self.texts[at].get_or_insert_with(value);
        }
    }

    /// Writes the keys into `out`.
    pub(super) fn write(&self, out: &mut Metadata) {
        for (text, Text(end, _)) in self.texts.iter().zip(TEXTS) {
            if let Some(text) = text {
                out.set(format!("general.{end}"), Value::String(text.clone()));
            }
        }
        for (own, Parents(kind, ..)) in self.parents.iter().zip(&PARENTS) {
            if let Some(own) = own {
                parents::write(kind, own, out);
            }
        }
        for (list, (end, _)) in self.lists.iter().zip(LISTS) {
            // An empty list is left out, because GGUF's readers need the type of an element.
            if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                out.set(format!("general.{end}"), Value::Array(Array::String(list.clone())));
            }
        }
    }
}

/// Returns true if a user's file may have `key`.
fn is_known(key: &str) -> bool {
    let Some(end) = key.strip_prefix("general.") else { return false };
    TEXTS.iter().any(|Text(text, _)| *text == end)
        || PARENTS.iter().any(|Parents(.., own)| *own == key)
        || LISTS.iter().any(|(list, _)| *list == end)
        || end.strip_prefix("sampling.").is_some_and(crate::arch::general::metadata::is_sampling)
}

/// Checks that every key of a user's file is known.
pub(super) fn check_overrides(file: &Config) -> Result<(), ConfigError> {
    const EXPECTED: &str = "a key of authorship, such as `general.name`, `general.license`, `general.base_models` or \
                            `general.sampling.temp`; for others there is --override-kv";
    match file.keys().find(|key| !is_known(key)) {
        Some(key) => Err(file.unusable(key, EXPECTED)),
        None => Ok(()),
    }
}
