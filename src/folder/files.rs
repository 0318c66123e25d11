//! The small files of the new folder: those of the source, with fewer tokens where they name tokens.

use std::path::{Path, PathBuf};

use kquant_formats::sentencepiece;
use kquant_formats::{json, whole};
use serde_json::{Map, Value as Json};

use super::tokens::Kept;
use super::{FolderError, ids, tokenizer};

/// A file by its name in the folder.
type File = (String, Vec<u8>);

/// Files that a tokenizer of Python code reads where there is no `tokenizer.json`.
const SLOW: [&str; 2] = ["vocab.json", "merges.txt"];

/// Returns the files of the new folder except the weights and `config.json`.
///
/// # Errors
/// Fails when a file cannot be read, or a tokenizer is of a kind that cannot be trimmed.
pub(super) fn all(folder: &Path, kept: &Kept) -> Result<Vec<File>, FolderError> {
    let mut files = Vec::new();
    let trims = !kept.is_all();
    for (name, path) in listed(folder)? {
        let content = match name.as_str() {
            "tokenizer.json" if trims => text(&tokenizer::trimmed(&path, parsed(&path)?, kept)?, false),
            "tokenizer_config.json" if trims => {
                text(&tokenizer::trimmed_settings(parsed(&path)?, kept), true)
            }
            "added_tokens.json" if trims => {
                text(&Json::Object(tokenizer::trimmed_map(object(&path)?, kept)), true)
            }
            "generation_config.json" if trims => {
                let mut file = object(&path)?;
                ids::renumber(&mut file, kept);
                text(&Json::Object(file), true)
            }
            "tokenizer.model" if trims => sentencepiece::trimmed(&path, |id| !kept.is_lost(id))?,
            // `tokenizer.json` says the same, which the file of a byte-level vocabulary is never without here.
            name if trims && SLOW.contains(&name) => continue,
            _ => whole::read(&path, whole::LIST)?,
        };
        files.push((name, content));
    }
    Ok(files)
}

/// Returns the names and paths of the source's files that belong to a model and are no weights, in order of names.
fn listed(folder: &Path) -> Result<Vec<(String, PathBuf)>, FolderError> {
    let mut files = Vec::new();
    for (prefix, folder) in [("", folder.to_owned()), (TEMPLATES, folder.join(TEMPLATES))] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted = if prefix.is_empty() { is_copied(&name) } else { name.ends_with(".jinja") };
            if wanted && entry.path().is_file() {
                let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                files.push((name, entry.path()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Folder of the chat templates beside the usual one.
const TEMPLATES: &str = "additional_chat_templates";

/// Returns true for a file that belongs to a model whatever its weights are: the tokenizer, templates, licenses, the card,
/// settings of other modalities, code.
fn is_copied(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "generation_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "preprocessor_config.json",
        "processor_config.json",
        "chat_template.json",
    ];
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&name)
        || SLOW.contains(&name)
        || ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"].contains(&name)
        || [".jinja", ".py"].iter().any(|end| name.ends_with(end))
        || ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "README.MD"]
            .iter()
            .any(|start| upper.starts_with(start))
}

fn parsed(path: &Path) -> Result<Json, FolderError> {
    let bytes = whole::read(path, whole::LIST)?;
    json::parse(&bytes).map_err(|fault| FolderError::Json { path: path.to_owned(), fault })
}

fn object(path: &Path) -> Result<Map<String, Json>, FolderError> {
    match parsed(path)? {
        Json::Object(map) => Ok(map),
        _ => Err(FolderError::Tokenizer { path: path.to_owned(), what: "holds no JSON object".to_owned() }),
    }
}

/// Returns JSON as text, with one value per line where people read it.
pub(super) fn text(value: &Json, pretty: bool) -> Vec<u8> {
    let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
    text.into_bytes()
}
