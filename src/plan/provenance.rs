//! What a file says of the text that it was calibrated with.

use kquant_formats::gguf::{Metadata, Value};

use crate::text::OwnText;

/// Recorded in the metadata, so that the file can be made again.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Provenance {
    /// Name of the text, without its folder.
    pub text: String,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// Tokens used.
    pub tokens: u64,
    /// What the model wrote of the text itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_text: Option<OwnText>,
    /// Tokens per chunk.
    pub context: u32,
    /// How it was used.
    pub method: String,
    /// Rule of the Hessians' damping.
    pub damping: String,
}

impl Provenance {
    /// Adds the keys `quantize.calibration.*`. Only a model's own text is drawn at random, so that only it has a seed.
    pub fn record(&self, metadata: &mut Metadata) {
        let mut set = |key: &str, value: Value| metadata.set(format!("quantize.calibration.{key}"), value);
        set("text", self.text.as_str().into());
        set("text_sha256", self.text_sha256.as_str().into());
        set("tokens", Value::U64(self.tokens));
        if let Some(own) = &self.own_text {
            set("own_text_tokens", Value::U64(own.tokens));
            set("own_text_seed", Value::U64(own.seed));
        }
        set("context", Value::U32(self.context));
        set("method", self.method.as_str().into());
        set("damping", self.damping.as_str().into());
    }
}
