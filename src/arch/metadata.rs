//! The complete metadata of a converted model, tokenizer aside.

use kquant_formats::gguf::{Metadata, Value};

use crate::plan::MappedTensor;

use super::Architecture;
use super::config::{Config, ConfigError};
use super::error::ArchError;
use super::naming::Naming;
use super::size_label::size_label_of;

/// The `general.*` keys and the family's own, in the order llama.cpp's converter writes them.
///
/// `generation` is `generation_config.json` where there is one: its sampling recommendations become
/// `general.sampling.*`. `folder` is the name of the model's folder, from which the model's name and its parts are
/// guessed after `_name_or_path` of the configuration. `tensors` are those of [`Architecture::tensors`], counted for
/// the size label. `general.file_type` and `general.quantization_version` depend on the recipe and are not set.
///
/// # Errors
/// As [`Architecture::keys`], and when a sampling recommendation has a wrong type.
pub fn metadata(
    architecture: &dyn Architecture,
    config: &Config,
    generation: Option<&Config>,
    folder: &str,
    tensors: &[MappedTensor],
) -> Result<Metadata, ArchError> {
    let parameters = tensors.iter().map(|t| t.shape.iter().copied().fold(1, u64::saturating_mul));
    let parameters = parameters.fold(0, u64::saturating_add);

    let mut out = Metadata::new();
    out.set("general.architecture", architecture.gguf_name().into());
    out.set("general.type", "model".into());
    if let Some(generation) = generation {
        sampling(generation, &mut out)?;
    }
    let naming = naming(config, folder, parameters)?;
    let keys = [
        ("general.name", naming.name.or_else(|| Some(architecture.gguf_name().to_owned()))),
        ("general.version", naming.version),
        ("general.organization", naming.organization),
        ("general.finetune", naming.finetune),
        ("general.basename", naming.basename),
        ("general.size_label", naming.size_label.or_else(|| Some(size_label_of(tensors)))),
    ];
    for (key, value) in keys {
        if let Some(value) = value {
            out.set(key, Value::String(value));
        }
    }
    for (key, value) in architecture.keys(config)? {
        out.set(key, value);
    }
    Ok(out)
}

fn naming(config: &Config, folder: &str, parameters: u64) -> Result<Naming, ConfigError> {
    // With more slashes it is a path on somebody's disk.
    let published = config.optional_text(&["_name_or_path"])?.filter(|path| path.matches('/').count() <= 1);
    let published = published.map(|id| Naming::of(id, parameters)).unwrap_or_default();
    Ok(published.or(Naming::of(folder, parameters)))
}

/// A sampling recommendation: its key, its names in `generation_config.json`, its type.
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

fn sampling(generation: &Config, out: &mut Metadata) -> Result<(), ConfigError> {
    for Sampling(key, names, kind) in SAMPLING {
        let value = match kind {
            Kind::Text => generation.optional_text(names)?.map(Value::from),
            Kind::Integer => generation.optional_integer(names)?.map(Value::I32),
            Kind::Number => generation.optional_number(names)?.map(Value::F32),
        };
        if let Some(value) = value {
            out.set(format!("general.sampling.{key}"), value);
        }
    }
    Ok(())
}
