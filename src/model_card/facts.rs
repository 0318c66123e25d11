//! What a GGUF says of itself.

use std::path::Path;

use kquant_formats::gguf::{Array, Gguf, Metadata, Value};
use kquant_formats::source::Source;
use kquant_kernels::block;

use super::ModelCardError;
use crate::checkpoint::type_layout;
use crate::context::{After, Progress, Unit};
use crate::hash::file_sha256_with;
use crate::recipe::FILE_TYPES;

/// Tokens of context that memory is stated for.
pub(super) const CONTEXT: u64 = 4096;

/// Start of an address on Hugging Face.
const HUB: &str = "https://huggingface.co/";

/// A file as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// Name of the file without its folder.
    pub name: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file in lower-case hexadecimal.
    pub sha256: String,
}

/// What a GGUF, in one file or split, says of itself.
#[derive(Debug, Clone)]
pub struct GgufFacts {
    /// Its files in their order.
    pub files: Vec<PublishedFile>,
    /// Its keys.
    pub metadata: Metadata,
    /// Bits per weight of the tensors' data.
    pub bits_per_weight: f64,
    /// Name of the type that most weights have.
    pub most: &'static str,
}

impl GgufFacts {
    /// Reads and hashes the GGUF at `path` with all its files, and tells `progress` of the bytes that are hashed.
    ///
    /// # Errors
    /// Fails when a file cannot be read or is malformed.
    pub fn open(path: &Path, progress: &dyn Progress) -> Result<Self, ModelCardError> {
        let gguf = Gguf::open(path, type_layout)?;
        progress.begin(gguf.files().map(Source::bytes).sum(), Unit::Bytes);
        let (mut files, mut before) = (Vec::new(), 0);
        for file in gguf.files() {
            let path = file.path();
            let (sha256, bytes) = file_sha256_with(path, &After { before, whole: progress })
                .map_err(|source| ModelCardError::Read { path: path.to_owned(), source })?;
            before += bytes;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(PublishedFile { name, bytes, sha256 });
        }
        let weights = |shape: &[u64]| shape.iter().product::<u64>();
        let all: u64 = gguf.tensors().iter().map(|t| weights(&t.shape)).sum();
        let bytes: u64 = gguf.tensors().iter().map(|t| t.bytes).sum();
        let share = |id: u32| -> u64 {
            gguf.tensors().iter().filter(|t| t.type_id == id).map(|t| weights(&t.shape)).sum()
        };
        let most = gguf.tensors().iter().map(|t| t.type_id).max_by_key(|&id| (share(id), id));
        Ok(Self {
            files,
            metadata: gguf.metadata().clone(),
            bits_per_weight: bytes as f64 * 8.0 / all.max(1) as f64,
            most: most.and_then(block::by_id).map_or("?", |b| b.name),
        })
    }

    /// Returns the text at `key`.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)?.as_str()
    }

    /// Returns the number at `key`.
    pub(super) fn float(&self, key: &str) -> Option<f64> {
        match *self.metadata.get(key)? {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            ref value => value.as_u64().map(|v| v as f64),
        }
    }

    /// Returns the bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns the file type's name or, where types were chosen one by one, what they were chosen for.
    pub(super) fn kind(&self) -> String {
        if let Some(target) = self.text("kquant.types.target") {
            return format!("mixed, for {target}");
        }
        let id = self.metadata.get("general.file_type").and_then(Value::as_u64);
        let named = FILE_TYPES.iter().find(|t| t.id.is_some_and(|own| Some(u64::from(own)) == id));
        named.map_or(self.most, |t| t.name).to_owned()
    }

    /// Returns the names on Hugging Face of the models that this one was made of, as far as keys say: its source, or the
    /// original of a pruned or trained one.
    ///
    /// The base models of other files are not meant: they are those of the source itself, which may be a fine-tuned model.
    pub(super) fn base_models(&self) -> Vec<String> {
        let named = |key: &str| self.text(key)?.strip_prefix(HUB).map(|id| id.trim_matches('/').to_owned());
        let changed = self
            .metadata
            .iter()
            .any(|(key, _)| key.starts_with("kquant.pruned.") || key.starts_with("kquant.distilled."));
        if changed && let Some(base) = named("general.base_model.0.repo_url") {
            return vec![base];
        }
        named("general.source.repo_url").or_else(|| named("general.repo_url")).into_iter().collect()
    }

    /// Returns the tokens of context that memory is stated for: `CONTEXT`, or those that the model has if they are fewer.
    pub(super) fn context(&self) -> u64 {
        let key = self.text("general.architecture").map(|name| format!("{name}.context_length"));
        let own = key.and_then(|key| self.metadata.get(&key)).and_then(Value::as_u64);
        own.unwrap_or(CONTEXT).min(CONTEXT)
    }

    /// Returns the bytes of keys and values in 16 bits for [`context`](Self::context) tokens; `None` where keys do not say how many there are.
    pub(super) fn cache_bytes(&self) -> Option<u64> {
        let architecture = self.text("general.architecture")?;
        let value = |key: &str| self.metadata.get(&format!("{architecture}.{key}"));
        let number = |key: &str| value(key).and_then(Value::as_u64);
        let (layers, heads) = (number("block_count")?, number("attention.head_count"));
        let width = || number("embedding_length")?.checked_div(heads?);
        let keys = number("attention.key_length").or_else(width)?;
        let values = number("attention.value_length").or_else(width)?;
        let kv_heads = match value("attention.head_count_kv") {
            Some(Value::Array(array)) => listed(array)?,
            Some(one) => one.as_u64()?.checked_mul(layers)?,
            None => heads?.checked_mul(layers)?,
        };
        kv_heads.checked_mul(keys.checked_add(values)?)?.checked_mul(2)?.checked_mul(self.context())
    }
}

/// Returns the sum of a list of non-negative integers.
fn listed(array: &Array) -> Option<u64> {
    match array {
        Array::U32(heads) => Some(heads.iter().map(|&n| u64::from(n)).sum()),
        Array::I32(heads) => heads.iter().try_fold(0u64, |sum, &n| Some(sum + u64::try_from(n).ok()?)),
        _ => None,
    }
}
