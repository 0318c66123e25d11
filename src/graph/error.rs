//! The error of a model's keys.

/// The error of a hyper-parameter that is missing, has a wrong type or value, or does not fit the others.
#[derive(Debug, thiserror::Error)]
#[error("key `{key}` {what}")]
pub struct KeyError {
    /// GGUF key.
    pub key: String,
    /// What is wrong with the key, as the end of a sentence.
    pub what: String,
}
