//! Reading of `config.json` (and `generation_config.json`): typed values, and errors that name file and key.
//!
//! A key set to `null` counts as absent, which is how transformers writes a default.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kquant_formats::FormatError;
use kquant_formats::json::{self, JsonError};
use kquant_formats::whole;
use serde_json::{Map, Value as Json};

use crate::arch::table::unread;

/// A JSON object with the path that led to it.
#[derive(Debug, Clone)]
pub struct Config {
    origin: String,
    /// Prefix of the keys in error messages, such as `rope_parameters.`; empty for the file's top level.
    prefix: String,
    values: Map<String, Json>,
    /// Keys that were asked for, with the objects that contain them; sections share this set.
    read: Arc<Mutex<BTreeSet<String>>>,
}

/// The reason why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] FormatError),
    /// The file is not JSON.
    #[error("{file} is not valid JSON: {fault}; correct the file or fetch it again")]
    Json {
        /// Path of the file.
        file: String,
        /// What the parser said, with line and column; it is not called `source`, because the message contains it.
        fault: JsonError,
    },
    /// A required key is absent or null.
    #[error("{file}: no value for {keys}; add it as the model's authors published it")]
    Missing {
        /// Path of the file.
        file: String,
        /// The key, or the alternative keys.
        keys: String,
    },
    /// A key has a value that cannot be used.
    #[error("{file}: `{key}` is {found}, expected {expected}")]
    Value {
        /// Path of the file.
        file: String,
        /// The key, with the objects that contain it.
        key: String,
        /// A description of valid values.
        expected: &'static str,
        /// The value as JSON, shortened.
        found: String,
    },
}

impl Config {
    /// Reads the JSON object in `file`.
    ///
    /// # Errors
    /// Fails when the file cannot be read or does not hold a JSON object.
    pub fn open(file: &Path) -> Result<Self, ConfigError> {
        Self::of_bytes(file.display().to_string(), &whole::read(file, whole::CONFIGURATION)?)
    }

    /// Parses `text`, JSON as Python's module reads it; `origin` is the file name for errors. In a model that handles
    /// more than text, the values of `text_config` replace those of the whole model.
    ///
    /// # Errors
    /// Fails when `text` is not a JSON object.
    pub fn parse(origin: impl Into<String>, text: &str) -> Result<Self, ConfigError> {
        Self::of_bytes(origin.into(), text.as_bytes())
    }

    fn of_bytes(origin: String, text: &[u8]) -> Result<Self, ConfigError> {
        match json::parse(text) {
            Ok(values) => {
                Ok(Self { origin, prefix: String::new(), values: of_text(values), read: Arc::default() })
            }
            Err(fault) => Err(ConfigError::Json { file: origin, fault }),
        }
    }

    /// Returns the configuration with the values of the object `defaults` for keys that are not set.
    pub(super) fn or(&self, defaults: Json) -> Self {
        let mut config = self.clone();
        for (key, value) in defaults.as_object().into_iter().flatten() {
            if config.values.get(key).is_none_or(Json::is_null) {
                config.values.insert(key.clone(), value.clone());
            }
        }
        config
    }

    /// Returns all values, as parsed.
    pub fn json(&self) -> Json {
        Json::Object(self.values.clone())
    }

    /// Returns the file that the values come from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the positive whole number under the first of `keys` that is set.
    ///
    /// # Errors
    /// Fails when none is set or the value is not a whole number from 1 to 2^32 - 1 (GGUF stores it in 32 bits).
    pub fn count(&self, keys: &[&str]) -> Result<u32, ConfigError> {
        self.optional_count(keys)?.ok_or_else(|| self.missing(keys))
    }

    /// Returns the positive whole number under the first of `keys` that is set; `None` when none is set.
    ///
    /// # Errors
    /// Fails when the value is not a whole number from 1 to 2^32 - 1.
    pub fn optional_count(&self, keys: &[&str]) -> Result<Option<u32>, ConfigError> {
        self.typed(keys, "a whole number from 1 to 4294967295", |json| {
            json.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0)
        })
    }

    /// Returns the number under the first of `keys` that is set.
    ///
    /// # Errors
    /// Fails when none is set or the value is not a number that fits f32.
    pub fn number(&self, keys: &[&str]) -> Result<f32, ConfigError> {
        self.optional_number(keys)?.ok_or_else(|| self.missing(keys))
    }

    /// Returns the number under the first of `keys` that is set; `None` when none is set.
    ///
    /// # Errors
    /// Fails when the value is not a number that fits f32.
    pub fn optional_number(&self, keys: &[&str]) -> Result<Option<f32>, ConfigError> {
        self.typed(keys, "a number", |json| json.as_f64().map(|n| n as f32).filter(|n| n.is_finite()))
    }

    /// Returns the number under the first of `keys` that is set, in f64; `None` when none is set.
    ///
    /// # Errors
    /// Fails when the value is not a number.
    pub fn optional_double(&self, keys: &[&str]) -> Result<Option<f64>, ConfigError> {
        self.typed(keys, "a number", |json| json.as_f64().filter(|n| n.is_finite()))
    }

    /// Returns the signed whole number under the first of `keys` that is set; `50.0` counts as one.
    ///
    /// # Errors
    /// Fails when the value is not a whole number of 32 bits.
    pub fn optional_integer(&self, keys: &[&str]) -> Result<Option<i32>, ConfigError> {
        self.typed(keys, "a whole number of 32 bits", |json| {
            let number = json.as_f64().filter(|n| n.fract() == 0.0)?;
            (number.abs() <= f64::from(i32::MAX)).then_some(number as i32)
        })
    }

    /// Returns the boolean under `key`.
    ///
    /// # Errors
    /// Fails when the value is not a boolean.
    pub fn optional_flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.typed(&[key], "true or false", Json::as_bool)
    }

    /// Returns the string under the first of `keys` that is set.
    ///
    /// # Errors
    /// Fails when the value is not a string.
    pub fn optional_text(&self, keys: &[&str]) -> Result<Option<&str>, ConfigError> {
        self.typed(keys, "a string", Json::as_str)
    }

    /// Returns the first string of the list under the first of `keys` that is set; `None` when the list is empty.
    ///
    /// # Errors
    /// Fails when the value is not a list of strings.
    pub fn optional_first_text(&self, keys: &[&str]) -> Result<Option<&str>, ConfigError> {
        self.typed(keys, "a list of strings", |json| {
            let list = json.as_array()?;
            list.iter().all(Json::is_string).then(|| list.first().and_then(Json::as_str))
        })
        .map(Option::flatten)
    }

    /// Returns the strings of the list under `key`.
    ///
    /// # Errors
    /// Fails when the value is not a list of strings.
    pub fn optional_texts(&self, key: &str) -> Result<Option<Vec<&str>>, ConfigError> {
        self.typed(&[key], "a list of strings", |json| json.as_array()?.iter().map(Json::as_str).collect())
    }

    /// Returns the whole numbers of the list under `key`.
    ///
    /// # Errors
    /// Fails when the value is not a list of whole numbers from 0 on.
    pub fn optional_counts(&self, key: &str) -> Result<Option<Vec<u64>>, ConfigError> {
        self.typed(&[key], "a list of whole numbers", |json| {
            json.as_array()?.iter().map(Json::as_u64).collect()
        })
    }

    /// Returns the numbers of the list under `key`.
    ///
    /// # Errors
    /// Fails when the value is not a list of numbers that fit f32.
    pub fn optional_numbers(&self, key: &str) -> Result<Option<Vec<f32>>, ConfigError> {
        let number = |json: &Json| json.as_f64().map(|n| n as f32).filter(|n| n.is_finite());
        self.typed(&[key], "a list of numbers", |json| json.as_array()?.iter().map(number).collect())
    }

    /// Returns the object under the first of `keys` that is set.
    ///
    /// # Errors
    /// Fails when the value is not an object.
    pub fn optional_section(&self, keys: &[&str]) -> Result<Option<Config>, ConfigError> {
        let Some((key, _)) = self.first(keys) else { return Ok(None) };
        let values = self.typed(&[key], "an object", Json::as_object)?.cloned().unwrap_or_default();
        let (origin, read) = (self.origin.clone(), Arc::clone(&self.read));
        Ok(Some(Config { origin, prefix: format!("{}{key}.", self.prefix), values, read }))
    }

    /// Returns the error for a value of `key` that cannot be used.
    pub(super) fn unusable(&self, key: &str, expected: &'static str) -> ConfigError {
        let found = self.values.get(key).map_or_else(|| "absent".to_owned(), Json::to_string);
        ConfigError::Value {
            file: self.origin.clone(),
            key: format!("{}{key}", self.prefix),
            expected,
            found: found.chars().take(60).collect(),
        }
    }

    /// Returns the error for a configuration that sets none of `keys`.
    pub(super) fn missing(&self, keys: &[&str]) -> ConfigError {
        let keys: Vec<_> = keys.iter().map(|key| format!("`{}{key}`", self.prefix)).collect();
        ConfigError::Missing { file: self.origin.clone(), keys: keys.join(" or ") }
    }

    /// Removes `key`.
    pub(super) fn remove(&mut self, key: &str) {
        self.values.shift_remove(key);
    }

    /// Returns the value under `key`, which may be null.
    pub(super) fn value(&self, key: &str) -> Option<&Json> {
        self.note(key);
        self.values.get(key)
    }

    /// Returns all keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Returns the keys that nothing has asked for yet, except those that do not affect the computation.
    pub(crate) fn unread(&self) -> Vec<String> {
        unread::keys(&self.values, &self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, key: &str) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(format!("{}{key}", self.prefix));
    }

    fn first<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &Json)> {
        keys.iter().for_each(|key| self.note(key));
        keys.iter()
            .find_map(|&key| self.values.get(key).filter(|json| !json.is_null()).map(|json| (key, json)))
    }

    fn typed<'a, T>(
        &'a self,
        keys: &[&str],
        expected: &'static str,
        read: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((key, json)) = self.first(keys) else { return Ok(None) };
        read(json).map(Some).ok_or_else(|| self.unusable(key, expected))
    }
}

/// Returns the values for the part of the model that handles text.
fn of_text(mut values: Map<String, Json>) -> Map<String, Json> {
    if let Some(Json::Object(text)) = values.remove("text_config") {
        values.extend(text.into_iter().filter(|(_, value)| !value.is_null()));
    }
    values
}
