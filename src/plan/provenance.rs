//! What a file says of the text that it was calibrated with.

use kquant_formats::gguf::{Metadata, Value};

/// Recorded in the metadata, so that the file can be made again.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Provenance {
    /// Name of the text, without its folder.
    pub text: String,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// Tokens used.
    pub tokens: u64,
    /// Tokens per chunk.
    pub context: u32,
    /// How it was used.
    pub method: String,
    /// Rule of the Hessians' damping.
    pub damping: String,
}

impl Provenance {
    /// Adds the keys `quantize.calibration.*`. Nothing is drawn at random, so there is no seed.
    pub fn record(&self, metadata: &mut Metadata) {
        let mut set = |key: &str, value: Value| metadata.set(format!("quantize.calibration.{key}"), value);
        set("text", self.text.as_str().into());
        set("text_sha256", self.text_sha256.as_str().into());
        set("tokens", Value::U64(self.tokens));
        set("context", Value::U32(self.context));
        set("method", self.method.as_str().into());
        set("damping", self.damping.as_str().into());
    }
}
