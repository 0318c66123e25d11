//! Base models and datasets from which a model was made.

use kquant_formats::gguf::{Metadata, Value};

use super::card::Node;
use super::published::{cached, is_commit};
use crate::arch::general::naming::Naming;

/// Fields of a base model or dataset, in the order of the keys.
pub(super) const FIELDS: [&str; 9] =
    ["name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"];

/// The part of an address that precedes a model's name on Hugging Face.
const HUB: &str = "huggingface.co/";

/// A base model or dataset: its known fields, with names from [`FIELDS`].
pub(super) type Parent = Vec<(&'static str, String)>;

/// Returns the parents in an entry of a card or an override file: names on Hugging Face, addresses, or fields as they
/// are.
///
/// `parameters` is the number of weights of the model itself, which sizes in names are compared with.
pub(super) fn parents(node: &Node, parameters: u64) -> Vec<Parent> {
    let parent = |node: &Node| match node {
        Node::Text(id) => named(id, parameters),
        Node::Map(entries) => {
            let field = |&field: &&'static str| {
                let (_, value) = entries.iter().rev().find(|(key, _)| key == field)?;
                Some((field, value.text()?))
            };
            FIELDS.iter().filter_map(field).collect()
        }
        Node::Null | Node::List(_) => Parent::new(),
    };
    match node {
        Node::List(nodes) => nodes.iter().map(parent).collect(),
        Node::Text(_) => vec![parent(node)],
        Node::Null | Node::Map(_) => Vec::new(),
    }
}

/// Returns the fields that follow from a name or an address.
fn named(id: &str, parameters: u64) -> Parent {
    // Training programs write the path where they found the model on the machine.
    let cached = cached(id);
    let id = cached.as_deref().unwrap_or(id);
    let is_address = ["http://", "https://", "ssh://"].iter().any(|scheme| id.starts_with(scheme));
    if !is_address && is_commit(id) {
        return Parent::new();
    }
    if !is_address {
        let hub = repository(id).map(|id| format!("https://{HUB}{id}"));
        return fields(&Naming::of(id, parameters), hub);
    }
    let rest = id.strip_prefix("https://").or_else(|| id.strip_prefix("http://"));
    let published = rest.and_then(|rest| rest.strip_prefix(HUB)).filter(|id| {
        let parts: Vec<&str> = id.split('/').collect();
        parts.len() == 2 && parts.iter().all(|part| !part.is_empty())
    });
    let naming = published.map(|id| Naming::of(id, parameters)).unwrap_or_default();
    fields(&naming, Some(id.to_owned()))
}

/// Returns `id` if it is the name of an organization's model.
fn repository(id: &str) -> Option<&str> {
    let (organization, _) = id.split_once('/')?;
    (!organization.starts_with('.') && !id.contains(' ')).then_some(id)
}

fn fields(naming: &Naming, address: Option<String>) -> Parent {
    let known = [
        ("name", naming.name.clone()),
        ("version", naming.version.clone()),
        ("organization", naming.organization.clone()),
        ("repo_url", address),
    ];
    known.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
}

/// Writes `general.KIND.count` and the fields of each parent.
pub(super) fn write(kind: &str, parents: &[Parent], out: &mut Metadata) {
    out.set(format!("general.{kind}.count"), Value::U32(u32::try_from(parents.len()).unwrap_or(u32::MAX)));
    for (number, parent) in parents.iter().enumerate() {
        for (field, value) in parent {
            out.set(format!("general.{kind}.{number}.{field}"), Value::String(value.clone()));
        }
    }
}
