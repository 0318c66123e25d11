//! The complete metadata of a converted model except the tokenizer's.

use kquant_formats::gguf::{Metadata, Value};

use crate::checkpoint::is_dense;
use crate::tensor::MappedTensor;

use super::naming::Naming;
use super::size_label::size_label_of;
use crate::arch::Architecture;
use crate::arch::config::{Config, ConfigError};
use crate::arch::error::ArchError;
use crate::arch::general::{Card, General, Pooling, check_overrides, is_commit};

/// Sources of metadata other than a checkpoint's configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// Name of the model's folder, from which the model's name and its parts are guessed.
    pub folder: &'a str,
    /// Contents of `generation_config.json`, whose sampling recommendations become `general.sampling.*`.
    pub generation: Option<&'a Config>,
    /// The model card, if there is one.
    pub card: Option<&'a Card>,
    /// Keys of [`Architecture::stored_keys`].
    pub stored: &'a [(String, Value)],
    /// How the model pools the states of a text, if it is an embedding model.
    pub pooling: Option<Pooling>,
    /// Keys that the user sets, by their names in GGUF; `general.base_models` and `general.datasets` are lists.
    pub overrides: Option<&'a Config>,
}

/// Returns the `general.*` keys and the family's own, in the order in which llama.cpp's converter writes them.
///
/// `tensors` are those of [`Architecture::tensors`], which are counted for the size label. `general.file_type` and
/// `general.quantization_version` depend on the recipe and are not set.
///
/// # Errors
/// Fails as [`Architecture::keys`] does, and when a sampling recommendation has a wrong type or the user sets an unknown
/// key.
pub fn metadata(
    architecture: &dyn Architecture,
    config: &Config,
    around: &Surroundings,
    tensors: &[MappedTensor],
) -> Result<Metadata, ArchError> {
    let parameters = tensors.iter().map(|t| t.shape.iter().copied().fold(1, u64::saturating_mul));
    let parameters = parameters.fold(0, u64::saturating_add);
    if let Some(file) = around.overrides {
        check_overrides(file)?;
    }

    let mut out = Metadata::new();
    out.set("general.architecture", architecture.gguf_name().into());
    for (key, value) in around.stored {
        out.set(key.clone(), value.clone());
    }
    out.set("general.type", "model".into());
    sampling(around, &mut out)?;
    let naming = naming(config, around.folder, parameters)?;
    let mut general = General::new(around.card, naming, around.overrides, parameters);
    general.default_to("name", || architecture.gguf_name().to_owned());
    general.default_to("size_label", || size_label_of(tensors));
    general.write(&mut out);
    let mut keys = architecture.keys(config)?;
    let name = |key: &str| format!("{}.{key}", architecture.gguf_name());
    keys.extend(dense_sizes(tensors).map(|(key, size)| (name(&key), Value::U32(size))));
    if let Some(pooling) = around.pooling {
        // The converter writes it after this key, where the family has it.
        let before = keys.iter().position(|(key, _)| *key == name("attention.causal"));
        let pooling = (name("pooling_type"), Value::U32(pooling.id()));
        keys.insert(before.map_or(keys.len(), |at| at + 1), pooling);
    }
    for (key, value) in keys {
        out.set(key, value);
    }
    Ok(out)
}

/// Returns the keys of the dense layers after the pooling: the widths of what they read and write.
fn dense_sizes(tensors: &[MappedTensor]) -> impl Iterator<Item = (String, u32)> {
    tensors.iter().filter(|tensor| is_dense(&tensor.name)).flat_map(|tensor| {
        let layer = tensor.name.trim_end_matches(".weight");
        let sizes = tensor.shape.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX));
        ["feat_in", "feat_out"]
            .into_iter()
            .zip(sizes)
            .map(move |(end, size)| (format!("{layer}_{end}"), size))
    })
}

fn naming(config: &Config, folder: &str, parameters: u64) -> Result<Naming, ConfigError> {
    // A name with more slashes is a path on somebody's disk.
    let published = config.optional_text(&["_name_or_path"])?;
    let published = published.filter(|path| path.matches('/').count() <= 1 && !is_commit(path));
    let published = published.map(|id| Naming::of(id, parameters)).unwrap_or_default();
    Ok(published.or(Naming::of(folder, parameters)))
}

/// A sampling recommendation: its key, its names in `generation_config.json` and its type.
struct Sampling(&'static str, &'static [&'static str], Kind);

enum Kind {
    Text,
    Integer,
    Number,
}

static SAMPLING: &[Sampling] = &[
    Sampling("sequence", &["sequence"], Kind::Text),
    Sampling("top_k", &["top_k"], Kind::Integer),
    Sampling("top_p", &["top_p"], Kind::Number),
    Sampling("min_p", &["min_p"], Kind::Number),
    Sampling("xtc_probability", &["xtc_probability"], Kind::Number),
    Sampling("xtc_threshold", &["xtc_threshold"], Kind::Number),
    Sampling("temp", &["temperature"], Kind::Number),
    Sampling("penalty_last_n", &["penalty_last_n"], Kind::Integer),
    Sampling("penalty_repeat", &["penalty_repeat", "repetition_penalty"], Kind::Number),
    Sampling("mirostat", &["mirostat"], Kind::Integer),
    Sampling("mirostat_tau", &["mirostat_tau"], Kind::Number),
    Sampling("mirostat_eta", &["mirostat_eta"], Kind::Number),
];

/// Returns true if there is a recommendation called `name`.
pub(super) fn is_sampling(name: &str) -> bool {
    SAMPLING.iter().any(|Sampling(key, ..)| *key == name)
}

impl Kind {
    /// Returns the value under the first of `names` that is set.
    fn read(&self, config: &Config, names: &[&str]) -> Result<Option<Value>, ConfigError> {
        Ok(match self {
            Self::Text => config.optional_text(names)?.map(Value::from),
            Self::Integer => config.optional_integer(names)?.map(Value::I32),
            Self::Number => config.optional_number(names)?.map(Value::F32),
        })
    }
}

/// Removes recommendations of a wrong type from `generation` and returns an error for each.
pub fn remove_odd_sampling(generation: &mut Config) -> Vec<ConfigError> {
    let mut odd = Vec::new();
    for Sampling(_, names, kind) in SAMPLING {
        for name in *names {
            if let Err(error) = kind.read(generation, &[name]) {
                odd.push(error);
                generation.remove(name);
            }
        }
    }
    odd
}

fn sampling(around: &Surroundings, out: &mut Metadata) -> Result<(), ConfigError> {
    for Sampling(key, names, kind) in SAMPLING {
        let key = format!("general.sampling.{key}");
        let (own, names): (_, &[&str]) = match around.overrides.filter(|file| file.value(&key).is_some()) {
            Some(file) => (Some(file), &[&key]),
            None => (around.generation, names),
        };
        let Some(own) = own else { continue };
        if let Some(value) = kind.read(own, names)? {
            out.set(key, value);
        }
    }
    Ok(())
}
