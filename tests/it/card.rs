//! Model cards of quantized files.

use std::fs;
use std::path::Path;

use kquant::hash::bytes_sha256;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};

/// What the model says of itself.
const AUTHORSHIP: &str = r#"{
    "general.name": "Tiny | Llama", "general.license": "other", "general.license.name": "no",
    "general.license.link": "https://example.org/license", "general.tags": ["story", "text-generation"],
    "general.languages": ["en", "no"], "general.sampling.temp": 0.6, "general.sampling.top_k": 20
}"#;

/// Writes `name` in `scratch`, a quantized tiny-llama with authorship.
fn model(scratch: &Scratch, name: &str, more: &[&str]) -> String {
    let authorship = scratch.path("authorship.json");
    fs::write(&authorship, AUTHORSHIP).unwrap();
    let metadata = ["--metadata", authorship.to_str().unwrap(), "-q"];
    let out = scratch.path(name);
    ok(quantize(&data("tiny-llama"), &out, "Q4_0", &[&metadata, more].concat()));
    out.to_str().unwrap().to_owned()
}

fn sha256(path: &str) -> String {
    bytes_sha256(&fs::read(path).unwrap())
}

#[test]
fn a_card_says_what_the_hub_reads_and_what_was_measured() {
    let scratch = Scratch::new("card");
    let file = model(&scratch, "tiny q4.gguf", &[]);
    let [result, card] = ["result.json", "README.md"].map(|n| scratch.path(n).to_str().unwrap().to_owned());
    let (base, text) = (data("tiny-llama"), data("corpora/eval-small.txt"));
    let score = ["perplexity", &file, "--base", base.to_str().unwrap(), "--text", text.to_str().unwrap()];
    ok(kquant(score.iter().copied().chain(["--context", "64", "--chunks", "4", "-q", "--json", &result])));
    let scored = format!("{file}={result}");
    let options =
        ["--base-model", "org/tiny", "--quantized-by", "someone: else", "--repository", "org/tiny-GGUF"];
    ok(kquant(["card", &file, "--result", &scored, "-o", &card].iter().chain(&options)));
    let card = fs::read_to_string(card).unwrap();
    let matter = "---\nbase_model:\n- org/tiny\nbase_model_relation: quantized\nlicense: other\nlicense_name: \"no\"\n\
        license_link: \"https://example.org/license\"\nlanguage:\n- en\n- \"no\"\nlibrary_name: gguf\n\
        pipeline_tag: text-generation\nquantized_by: \"someone: else\"\ntags:\n- gguf\n- kquant\n- story\n---\n";
    assert!(card.starts_with(matter), "{card}");
    let measured: serde_json::Value = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    let number = |at: &str| measured.pointer(at).unwrap().as_f64().unwrap();
    let size = format!("{:.1} MB", fs::metadata(&file).unwrap().len() as f64 / 1e6);
    for part in [
        "# Tiny   Llama GGUF",
        "[org/tiny](https://huggingface.co/org/tiny)",
        &format!("| [tiny q4.gguf](tiny%20q4.gguf) | Q4_0 | {size} | "),
        &format!(
            " | {:.5} | {:.4} | {:.2} % | 1 GB |",
            number("/kl/mean"),
            number("/kl/p99_9"),
            number("/same_top")
        ),
        "llama-cli -hf org/tiny-GGUF --hf-file 'tiny q4.gguf'",
        "llama-server -m 'tiny q4.gguf' -c 256",
        "FROM ./tiny q4.gguf\nPARAMETER num_ctx 256\nPARAMETER temperature 0.6\nPARAMETER top_k 20\n",
        "ollama create tiny---llama -f Modelfile",
        &format!("\n{}  tiny q4.gguf\n", sha256(&file)),
    ] {
        assert!(card.contains(part), "{part} in {card}");
    }
    assert!(!card.contains("KL predicted"), "{card}");
}

#[test]
fn several_files_and_split_ones_are_listed_in_order() {
    let scratch = Scratch::new("card-files");
    let (whole, mixed) = (model(&scratch, "whole.gguf", &[]), scratch.path("mixed.gguf"));
    let matrix = data("golden/tiny-llama.imatrix.gguf");
    let by_size = ["--size", "1200K", "--statistics", matrix.to_str().unwrap(), "-q"];
    let folder = data("tiny-llama");
    let mixed = mixed.to_str().unwrap();
    ok(kquant(["quantize", folder.to_str().unwrap(), "-o", mixed].iter().chain(&by_size)));
    let part = scratch.path("part").to_str().unwrap().to_owned();
    ok(kquant(["split", &whole, "-o", &part, "--max-tensors", "12", "-q"]));
    let (first, second) = (format!("{part}-00001-of-00002.gguf"), format!("{part}-00002-of-00002.gguf"));
    let run = kquant(["card", &first, mixed]);
    assert!(stderr(&run).contains("give --base-model"), "{}", stderr(&run));
    let card = ok(run);
    assert!(!card.contains("base_model"), "{card}");
    for part in [
        "| [part-00001-of-00002.gguf](part-00001-of-00002.gguf) and 1 more | Q4_0 | ",
        "| [mixed.gguf](mixed.gguf) | mixed, for ",
        "kquant merge part-00001-of-00002.gguf -o whole.gguf",
        "FROM ./whole.gguf\n",
        &format!(
            "\n{}  part-00001-of-00002.gguf\n{}  part-00002-of-00002.gguf\n{}  mixed.gguf\n",
            sha256(&first),
            sha256(&second),
            sha256(mixed)
        ),
    ] {
        assert!(card.contains(part), "{part} in {card}");
    }
}

#[test]
fn what_is_no_result_is_refused() {
    let scratch = Scratch::new("card-refused");
    let file = model(&scratch, "model.gguf", &[]);
    let (card, result) = (scratch.path("README.md"), scratch.path("result.json"));
    let with = |option: &str| kquant(["card", &file, "-o", card.to_str().unwrap(), "--result", option]);
    let scored = format!("{file}={}", result.display());
    refused("missing", &with(&scored), "cannot read", &card);
    fs::write(&result, "{\"perplexity\": {\"value\": 7}}").unwrap();
    refused("alone", &with(&scored), "no comparison with an original", &card);
    fs::write(&result, "perplexity: 7").unwrap();
    refused("text", &with(&scored), "is no JSON", &card);
    refused("another file", &with("other.gguf=x.json"), "none of the files", &card);
    refused("no pair", &with("x.json"), "write GGUF=JSON", &card);
    let folder = data("tiny-llama");
    let run = kquant(["card", folder.to_str().unwrap(), "-o", card.to_str().unwrap()]);
    refused("a folder", &run, "tiny-llama", &card);
    let run = kquant(["card", &file, "-o", &file, "--force"]);
    assert!(stderr(&run).contains("part of the input"), "{}", stderr(&run));
    assert!(Path::new(&file).metadata().unwrap().len() > 100_000);
}
