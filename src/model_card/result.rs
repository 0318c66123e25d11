//! What was measured, as the commands that measure write it.

use std::path::Path;

use kquant_formats::whole;
use serde_json::Value as Json;

use super::ModelCardError;

/// How far a file's predictions are from its original's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Mean KL divergence, in nats per token.
    pub kl: f64,
    /// KL divergence that one token of a thousand exceeds.
    pub kl_p99_9: f64,
    /// Share of tokens whose most probable continuation is the same, in percent.
    pub same_top: f64,
}

impl Measured {
    /// Reads a result. Of several texts it is that with the largest mean divergence.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is no JSON, or compares with no original.
    pub fn open(path: &Path) -> Result<Self, ModelCardError> {
        let fault = |what: String| ModelCardError::Result { path: path.to_owned(), what };
        let text = whole::read_file_or_pipe(path, whole::TEXT)?;
        let json: Json = serde_json::from_slice(&text).map_err(|e| fault(format!("is no JSON: {e}")))?;
        Self::of(&json).ok_or_else(|| fault("has no comparison with an original".to_owned()))
    }

    /// Takes the numbers out of a result. Of several texts it is that with the largest mean divergence; `None` where nothing was
    /// compared.
    pub fn of(json: &Json) -> Option<Self> {
        // `quantize` has the proof beside what it wrote; several texts are a list.
        let json = json.get("proof").unwrap_or(json);
        let reports =
            json.get("texts").and_then(Json::as_array).map_or(std::slice::from_ref(json), Vec::as_slice);
        reports.iter().filter_map(Self::of_text).max_by(|a, b| a.kl.total_cmp(&b.kl))
    }

    fn of_text(report: &Json) -> Option<Self> {
        let number = |at: &str| report.pointer(at).and_then(Json::as_f64);
        Some(Self { kl: number("/kl/mean")?, kl_p99_9: number("/kl/p99_9")?, same_top: number("/same_top")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_are_found_in_every_form() {
        let report = |kl: f64| json!({ "kl": { "mean": kl, "p99_9": 10.0 * kl }, "same_top": 90.0 });
        let expected = Measured { kl: 0.5, kl_p99_9: 5.0, same_top: 90.0 };
        for json in [
            report(0.5),
            json!({ "files": [], "proof": report(0.5) }),
            json!({ "texts": [report(0.25), report(0.5), report(0.125)] }),
        ] {
            assert_eq!(Measured::of(&json), Some(expected), "{json}");
        }
        assert_eq!(Measured::of(&json!({ "perplexity": { "value": 7.0 } })), None);
    }
}
