//! Whole files of every kind that stands beside a model, which are damaged by the tests of mutants and by fuzz/.
use serde_json::{Value as Json, json};

use super::readers::{CONFIGURATION, TOKENIZER_CONFIGURATION, VOCABULARY, whole_plan};

fn parsed(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap()
}

fn texts(all: impl IntoIterator<Item = Json>) -> Vec<Vec<u8>> {
    all.into_iter().map(|json| json.to_string().into_bytes()).collect()
}

/// A configuration with scaled positions and a quantization.
pub fn configuration() -> Vec<Vec<u8>> {
    let mut scaled = parsed(CONFIGURATION);
    scaled["rope_scaling"] = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64 });
    let mut quantized = scaled.clone();
    quantized["quantization_config"] =
        json!({ "quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false });
    texts([scaled, quantized])
}

/// Vocabularies of BPE and WordPiece.
pub fn vocabulary() -> Vec<Vec<u8>> {
    vec![VOCABULARY.to_vec(), include_bytes!("../../data/archs/bert/tokenizer.json").to_vec()]
}

/// Settings with a list of templates and a table of added tokens.
pub fn tokenizer_configuration() -> Vec<Vec<u8>> {
    let mut config = parsed(TOKENIZER_CONFIGURATION);
    config["chat_template"] = json!([{ "name": "default", "template": "{{ x }}" }]);
    config["added_tokens_decoder"] = json!({ "2": { "content": "</s>", "special": true } });
    texts([config])
}

/// Settings of generation.
pub fn generation_configuration() -> Vec<Vec<u8>> {
    texts([json!({ "eos_token_id": [1, 2], "temperature": 0.7, "top_k": 20 })])
}

/// A card with lists, anchors, merged keys and texts of several lines.
pub fn model_card() -> Vec<Vec<u8>> {
    let card = "---\nlicense: mit\nbase_model:\n- a/b\ntags: &t [x, 'y', \"z\"]\nlanguage: *t\nm: &m {k: v}\nn:\n  <<: *m\nname: |\n  a\n  b\n---\n# Text\n";
    vec![card.as_bytes().to_vec()]
}

/// The model of the folder as a GGUF with tensors of zeros.
pub fn model() -> Vec<Vec<u8>> {
    let plan = whole_plan();
    let file = plan.files.into_iter().next().unwrap();
    let mut bytes = file.header;
    bytes.resize(file.bytes as usize, 0);
    vec![bytes]
}

/// A manifest as JSON and as lines.
pub fn manifest() -> Vec<Vec<u8>> {
    let hash = |digit: &str| digit.repeat(64);
    let lines = format!(
        "# hashes\nsha256 {0} m.gguf:a.weight\nsha256 {1} m.gguf\nsha256-file {2} m.gguf\nxxh64 00 m.gguf:a\n",
        hash("a"),
        hash("b"),
        hash("c")
    );
    let tensor =
        |name: &str, digit| json!({ "name": name, "type": "F32", "bytes": 256, "sha256": hash(digit) });
    let mut all = texts([
        json!({ "kquant": "0.1.0", "plan_sha256": hash("d"), "options": { "type": "Q8_0", "pure": false },
        "sources": [{ "name": "model.safetensors", "bytes": 512, "sha256": hash("e") }],
        "files": [{ "path": "m.gguf", "bytes": 1024, "sha256": hash("c"), "metadata_sha256": hash("f"), "data_sha256": hash("b"),
            "tensors": [tensor("a.weight", "a"), tensor("b.weight", "1")] }] }),
    ]);
    all.push(lines.into_bytes());
    all
}

/// A list with prices of two types.
pub fn prices() -> Vec<Vec<u8>> {
    let prices = [("Q4_K", 100, json!(0.25)), ("Q8_0", 200, json!(null))]
        .map(|(kind, bytes, cost)| json!({ "type": kind, "bytes": bytes, "cost": cost }));
    texts([
        json!({ "version": 1, "tensors": [{ "name": "blk.0.ffn_up.weight", "shape": [64, 128], "prices": prices }],
        "origin": { "unit": "nats", "encoder": "guarded", "both_sides": false, "datasets": ["text"], "tokens": 512 } }),
    ])
}

/// Types for two patterns.
pub fn tensor_types() -> Vec<Vec<u8>> {
    vec![b"blk\\.(0|1)\\.ffn_.*=q8_0\noutput\\.weight$=Q6_K\n".to_vec()]
}

/// The description of a run.
pub fn resume_journal() -> Vec<Vec<u8>> {
    texts([json!({ "version": 1, "run": "0" })])
}
