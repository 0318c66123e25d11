//! What kquant does with the bytes of a file beside a model that may be damaged: it takes them or refuses them, without a panic.
//! The tests of mutants and the targets of fuzz/ call the same functions, so that they cannot drift apart. Each returns whether the
//! file was taken.
use std::fs;
use std::path::Path;

use kquant::checkpoint::{Origin, open};
use kquant::encode;
use kquant::hash::Expected;
use kquant::job::{Job, Statistics, Types, prepare, read_prices};
use kquant::layerwise::{Journal, journal};
use kquant::plan::Plan;
use kquant::recipe::{Options, TensorType, file_type};
use kquant::vocab::{Request, Tokenizer, load};
use kquant_formats::gguf::Metadata;
use tempfile::TempDir;

/// A text with letters, digits, marks, a special token and what no vocabulary has.
const TEXT: &str = "The whale's 42 songs,\n\tna\u{ef}ve \u{1f40b} <s> \u{65e5}\u{672c}  end";

/// The files of a model with three layers.
pub const CONFIGURATION: &[u8] = include_bytes!("../../data/archs/llama/config.json");
pub const VOCABULARY: &[u8] = include_bytes!("../../data/archs/llama/tokenizer.json");
pub const TOKENIZER_CONFIGURATION: &[u8] = include_bytes!("../../data/archs/llama/tokenizer_config.json");
const TENSORS: &[u8] = include_bytes!("../../data/archs/llama/model.safetensors");

thread_local! {
    /// A model's folder, which is made once.
    static MODEL: TempDir = whole_model();
}

fn whole_model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("config.json", CONFIGURATION),
        ("tokenizer.json", VOCABULARY),
        ("tokenizer_config.json", TOKENIZER_CONFIGURATION),
        ("model.safetensors", TENSORS),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Gives `read` the model with `bytes` as its file `name`, and puts back what was there.
fn with_model(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> bool) -> bool {
    MODEL.with(|model| {
        let path = model.path().join(name);
        let before = fs::read(&path).ok();
        fs::write(&path, bytes).unwrap();
        let is_taken = read(model.path());
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        is_taken
    })
}

/// Writes `bytes` to a file with the name `name` and gives it to `read`.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read(&path)
}

/// Plans the quantization of `model` to the type `kind`, which reads everything but the tensors' data. With the name `pre` of the
/// pre-tokenizer, it isn't looked for, which takes most of the time.
fn planned(model: &Path, kind: &str, pre: Option<&str>) -> Option<Plan> {
    let prepared = prepare(Job {
        model: model.to_owned(),
        types: Types::FileType(Options::new(file_type(kind).unwrap())),
        statistics: Statistics::None,
        encoder: encode::by_name("guarded").unwrap(),
        metadata: None,
        overrides: Vec::new(),
        keep_split: false,
        pre: pre.map(str::to_owned),
    });
    match prepared {
        Ok(prepared) => {
            assert!(!prepared.plan.tensors.is_empty());
            Some(prepared.plan)
        }
        // Whatever is wrong, the message names a file or a key of one.
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Plans the whole model that the tests damage.
pub fn whole_plan() -> Plan {
    MODEL.with(|model| planned(model.path(), "Q4_0", None)).unwrap()
}

/// Cuts a text by the tokenizer of `keys`, where that can be had.
fn tokenized(keys: &Metadata) {
    let Ok(tokenizer) = Tokenizer::from_metadata(keys) else { return };
    let Ok(ids) = tokenizer.encode(TEXT, true) else { return };
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    let _ = tokenizer.decode(&ids);
}

/// Plans the model and makes its tokenizer of the folder's files.
fn with_tokenizer(folder: &Path) -> bool {
    let config = serde_json::from_slice(CONFIGURATION).unwrap();
    let request = Request { folder, architecture: "llama", vocab_size: None, config: &config, pre: None };
    if let Ok(loaded) = load(&request) {
        tokenized(&loaded.keys);
    }
    planned(folder, "Q8_0", None).is_some()
}

/// Plans the model, whose vocabulary is whole.
fn with_known_words(folder: &Path) -> bool {
    planned(folder, "Q8_0", Some("gpt-2")).is_some()
}

/// A model's `config.json`.
pub fn configuration(bytes: &[u8]) -> bool {
    with_model("config.json", bytes, with_known_words)
}

/// A model's `tokenizer.json`.
pub fn vocabulary(bytes: &[u8]) -> bool {
    with_model("tokenizer.json", bytes, with_tokenizer)
}

/// A model's `tokenizer_config.json`.
pub fn tokenizer_configuration(bytes: &[u8]) -> bool {
    with_model("tokenizer_config.json", bytes, with_tokenizer)
}

/// A model's `generation_config.json`.
pub fn generation_configuration(bytes: &[u8]) -> bool {
    with_model("generation_config.json", bytes, with_known_words)
}

/// A model's card, its `README.md`.
pub fn model_card(bytes: &[u8]) -> bool {
    with_model("README.md", bytes, with_known_words)
}

/// A GGUF as a model to quantize, with its tokenizer.
pub fn model(bytes: &[u8]) -> bool {
    with_file("m.gguf", bytes, |path| {
        if let Ok(opened) = open(path)
            && let Origin::Gguf { metadata } = &opened.origin
        {
            tokenized(metadata);
        }
        planned(path, "COPY", None).is_some()
    })
}

/// A manifest as JSON or as lines of hashes.
pub fn manifest(bytes: &[u8]) -> bool {
    with_file("manifest.json", bytes, |path| Expected::open(path).is_ok())
}

/// A price list.
pub fn prices(bytes: &[u8]) -> bool {
    with_file("prices.json", bytes, |path| read_prices(path).is_ok())
}

/// A file of types for tensors.
pub fn tensor_types(bytes: &[u8]) -> bool {
    TensorType::parse_file(&String::from_utf8_lossy(bytes)).is_ok()
}

/// The journal of a run that was stopped: what it says of the run and what it holds. The description of this run is taken.
pub fn resume_journal(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let own = journal::folder_of(&out);
    fs::create_dir(&own).unwrap();
    fs::write(own.join("state.gguf"), bytes).unwrap();
    assert!(journal::holds(&out).is_some_and(|words| !words.is_empty()));
    fs::write(own.join("run.json"), bytes).unwrap();
    Journal::open(&out, "0", true).is_ok()
}
