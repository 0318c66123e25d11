//! What can be wrong with a model's keys.

/// A hyper-parameter that is missing, of a wrong type, or makes no model.
#[derive(Debug, thiserror::Error)]
#[error("key `{key}` {what}")]
pub struct KeyError {
    /// GGUF key.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}
