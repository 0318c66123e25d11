//! The tokenizer files of a model's folder, which are read once.

use std::path::{Path, PathBuf};

use kquant_formats::json::{self, JsonError};
use kquant_formats::whole;
use serde_json::Value;

use super::error::VocabError;

/// A JSON file with its path.
#[derive(Debug)]
pub(super) struct Json {
    pub(super) path: PathBuf,
    pub(super) value: Value,
}

/// All files of a folder that describe its tokenizer; files that do not exist are `None`.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
    pub(super) tokenizer: Option<Json>,
    pub(super) tokenizer_config: Option<Json>,
    pub(super) added_tokens: Option<Json>,
    /// Contents of `generation_config.json`, of which only the ends of generation are read.
    pub(super) generation: Option<Json>,
}

impl Files {
    /// Reads the JSON files of `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, VocabError> {
        Ok(Self {
            folder: folder.to_owned(),
            tokenizer: read_json(folder.join("tokenizer.json"))?,
            tokenizer_config: read_json(folder.join("tokenizer_config.json"))?,
            added_tokens: read_json(folder.join("added_tokens.json"))?,
            // An error is ignored here and reported where the other settings are read.
            generation: read_json(folder.join("generation_config.json")).unwrap_or(None),
        })
    }

    /// Returns the path of `tokenizer.model`, if there is one.
    pub(super) fn model(&self) -> Option<PathBuf> {
        Some(self.folder.join("tokenizer.model")).filter(|path| path.exists())
    }

    /// Returns true if `tokenizer_config.json` has any settings.
    pub(super) fn is_configured(&self) -> bool {
        let object = self.tokenizer_config.as_ref().and_then(|file| file.value.as_object());
        object.is_some_and(|object| !object.is_empty())
    }

    /// Returns the value of `key` in `tokenizer_config.json`, if both exist.
    pub(super) fn config(&self, key: &str) -> Option<&Value> {
        self.tokenizer_config.as_ref()?.value.get(key)
    }
}

/// Returns the text of `path`, or `None` if there is no such file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, VocabError> {
    let Some(bytes) = whole::read_if_there(path, whole::LIST)? else { return Ok(None) };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(VocabError::content(path, format!("not UTF-8 at byte {at}")))
        }
    }
}

/// Returns the JSON object in `path`, or `None` if there is no such file.
pub(super) fn read_json(path: PathBuf) -> Result<Option<Json>, VocabError> {
    let Some(bytes) = whole::read_if_there(&path, whole::LIST)? else { return Ok(None) };
    match json::parse::<Value>(&bytes) {
        Ok(value) if value.is_object() => Ok(Some(Json { path, value })),
        Ok(_) => Err(VocabError::content(&path, "holds no JSON object")),
        Err(JsonError { line, column, what }) => Err(VocabError::Json { path, line, column, what }),
    }
}
