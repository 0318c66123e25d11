//! Safetensors that are not a model in Hugging Face's format: adapters, and tensors under other programs' names.

use std::path::{Path, PathBuf};

use kquant_formats::safetensors::SafeTensors;
use kquant_formats::{json, whole};
use serde_json::Value as Json;

/// Name of the file with the settings of an adapter (PEFT).
pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Parts of the names of an adapter's tensors: PEFT's names for LoRA, its older embeddings, and other kinds of adapters.
const ADAPTER_TENSORS: [&str; 4] = [".lora_A.", ".lora_B.", ".lora_embedding_A", "prompt_embeddings"];

/// Returns the reason why the tensors of `file`, in `folder`, cannot be converted; `None` if they may be a model.
pub(super) fn refusal(folder: &Path, file: &SafeTensors) -> Option<String> {
    let has = |name: &str| file.tensors().iter().any(|t| t.name == name);
    let named = |start: &str| file.files().iter().all(|f| file_name(f.path()).starts_with(start));
    let adapts = |name: &str| ADAPTER_TENSORS.iter().any(|mark| name.contains(mark));
    let all_adapt = !file.tensors().is_empty() && file.tensors().iter().all(|t| adapts(&t.name));
    if named("adapter_model") || all_adapt {
        return Some(adapter(folder));
    }
    // The names are Mistral's, which were Meta's first; Hugging Face's begin with `model.`.
    let other_names = has("tok_embeddings.weight") && !has("model.embed_tokens.weight");
    other_names.then(|| {
        "the tensors have the names of Mistral's own format (consolidated.safetensors with params.json), which kquant does \
         not read; fetch the files of Hugging Face's format (config.json, model.safetensors or its shards), or convert \
         them with transformers' convert_mistral_weights_to_hf.py"
            .to_owned()
    })
}

/// Returns a note on an adapter in the same folder as the model's `files`, if there is one.
pub(super) fn note(folder: &Path, files: &[PathBuf]) -> Option<String> {
    let model = files.iter().any(|file| !file_name(file).starts_with("adapter_model"));
    (model && folder.join(ADAPTER_CONFIG).is_file()).then(|| {
        let path = folder.join(ADAPTER_CONFIG);
        format!(
            "{}: the adapter beside the model is not applied; merge it first if it should be",
            path.display()
        )
    })
}

/// Returns the reason why an adapter alone, in `folder`, cannot be converted.
pub(super) fn adapter(folder: &Path) -> String {
    let text = whole::read(&folder.join(ADAPTER_CONFIG), whole::CONFIGURATION).ok();
    let config = text.and_then(|text| json::parse::<Json>(&text).ok());
    let config = |key: &str| Some(config.as_ref()?.get(key)?.as_str()?.to_owned());
    let kind = config("peft_type").map_or_else(|| "an adapter".into(), |kind| format!("an adapter ({kind})"));
    let base = match config("base_model_name_or_path").filter(|name| !name.is_empty()) {
        Some(name) => format!("`{name}`"),
        None => "a base model that its adapter_config.json does not name".into(),
    };
    format!(
        "holds {kind} and no model: it changes the weights of {base}. Merge the two and give the result: with peft, \
         `AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(NEW_FOLDER)`"
    )
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
