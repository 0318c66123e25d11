//! The text of a card: a table of the files, how to run them, how to verify them.

use super::facts::CONTEXT;
use super::{CardEntry, CardOptions, GgufFacts};

/// Sizes of memory that machines have, in GB.
const MACHINES: [u64; 17] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512];
/// Bytes besides weights, keys and values: buffers of one evaluation and the program.
const BUFFERS: u64 = 300_000_000;

/// Returns the card without its front matter.
pub(super) fn body(entries: &[CardEntry], bases: &[String], options: &CardOptions) -> String {
    let Some(first) = entries.first() else { return String::new() };
    let name = line(first.facts.text("general.name").unwrap_or("Model"));
    let link = |id: &String| format!("[{0}](https://huggingface.co/{0})", line(id));
    let of = match bases {
        [] => name.clone(),
        bases => bases.iter().map(link).collect::<Vec<_>>().join(", "),
    };
    let mut out = format!(
        "\n# {name} GGUF\n\n{of} for llama.cpp and programs that are built on it, quantized with kquant.\n\n"
    );
    out += &table(entries);
    out += &run(&first.facts, &name, options);
    out += &verify(entries);
    out
}

fn table(entries: &[CardEntry]) -> String {
    let measured = entries.iter().any(|e| e.measured.is_some());
    let predicted = entries.iter().any(|e| predicted(e).is_some());
    let mut heads = vec!["File", "Type", "Size", "Bits per weight"];
    if measured {
        heads.extend(["KL divergence", "KL 99.9 %", "Same top token"]);
    }
    if predicted {
        heads.push("KL predicted");
    }
    heads.push("For memory of");
    let mut out = "## Files\n\n".to_owned();
    out += &row(heads.iter().map(|&head| head.to_owned()));
    out += &row(heads.iter().map(|_| "---".to_owned()));
    for entry in entries {
        out += &row(cells(entry, measured, predicted).into_iter());
    }
    if measured || predicted {
        out += "\nThe KL divergence says how far predictions are from those of the original, in nats per token, mean and the value that \
                one token of a thousand exceeds; 0 is best. The top token is the most probable one.\n";
    }
    out += &format!(
        "\nMemory is that of weights, of keys and values in 16 bits for {CONTEXT} tokens of context (or as many as the model has), and of buffers; longer contexts take more.\n\n"
    );
    out
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn cells(entry: &CardEntry, measured: bool, predicted_too: bool) -> Vec<String> {
    let facts = &entry.facts;
    let first = facts.files.first().map_or("", |file| &file.name);
    let files = match facts.files.len() {
        1 => format!("[{0}]({1})", line(first), address(first)),
        n => format!("[{0}]({1}) and {2} more", line(first), address(first), n - 1),
    };
    let mut cells =
        vec![files, line(&facts.kind()), size(facts.bytes()), format!("{:.2}", facts.bits_per_weight)];
    if measured {
        cells.extend(match entry.measured {
            Some(m) => [format!("{:.5}", m.kl), format!("{:.4}", m.kl_p99_9), format!("{:.2} %", m.same_top)],
            None => ["", "", ""].map(str::to_owned),
        });
    }
    if predicted_too {
        cells.push(predicted(entry).map_or(String::new(), |kl| format!("{kl:.5}")));
    }
    cells.push(memory(facts));
    cells
}

/// Returns the divergence that was predicted when types were chosen.
fn predicted(entry: &CardEntry) -> Option<f64> {
    entry.facts.float("kquant.types.predicted_kl")
}

/// Returns the smallest memory that weights, cache and buffers fit.
fn memory(facts: &GgufFacts) -> String {
    let cache = facts.cache_bytes().unwrap_or_default();
    let needed = facts.bytes().saturating_add(cache).saturating_add(BUFFERS);
    let fits = MACHINES.iter().find(|&&gigabytes| gigabytes * 1_000_000_000 >= needed);
    fits.map_or_else(|| size(needed), |gigabytes| format!("{gigabytes} GB"))
}

/// Returns `bytes` in powers of 1000, as the hub shows sizes.
fn size(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// How to run the first file.
fn run(facts: &GgufFacts, name: &str, options: &CardOptions) -> String {
    let file = facts.files.first().map_or("", |file| &file.name);
    let (quoted, context) = (shell(file), facts.context());
    let mut out = "## Run\n\nWith llama.cpp, from the folder of the files:\n\n```console\n".to_owned();
    if let Some(repository) = &options.repository {
        let file = if facts.files.len() == 1 { format!(" --hf-file {quoted}") } else { String::new() };
        out += &format!("$ llama-cli -hf {}{file}        # fetches it\n", shell(repository));
    }
    out += &format!("$ llama-cli -m {quoted} -c {context}\n$ llama-server -m {quoted} -c {context}\n```\n\n");
    let whole = if facts.files.len() > 1 { "whole.gguf" } else { file };
    out += "With ollama, by a file `Modelfile` beside it:\n\n```\n";
    out += &format!("FROM ./{whole}\n{}```\n\n```console\n", parameters(facts));
    if facts.files.len() > 1 {
        out += &format!("$ kquant merge {quoted} -o {whole}        # ollama reads no split files\n");
    }
    let tag: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let tag = tag.trim_matches('-');
    out + &format!("$ ollama create {tag} -f Modelfile\n$ ollama run {tag}\n```\n\n")
}

/// Lines of a Modelfile: the context, and how the model's authors sample.
fn parameters(facts: &GgufFacts) -> String {
    const SAMPLING: [(&str, &str); 5] = [
        ("temp", "temperature"),
        ("top_k", "top_k"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("penalty_repeat", "repeat_penalty"),
    ];
    let mut out = format!("PARAMETER num_ctx {}\n", facts.context());
    for (key, parameter) in SAMPLING {
        if let Some(value) = facts.float(&format!("general.sampling.{key}")) {
            // What was 0.6 in 32 bits is so again.
            out += &format!("PARAMETER {parameter} {}\n", value as f32);
        }
    }
    out
}

/// How to verify all files.
fn verify(entries: &[CardEntry]) -> String {
    let mut out = "## Verify\n\nSHA-256 of each file, for `sha256sum -c`:\n\n```\n".to_owned();
    for file in entries.iter().flat_map(|entry| &entry.facts.files) {
        out += &format!("{}  {}\n", file.sha256, line(&file.name));
    }
    let first = entries.first().and_then(|e| e.facts.files.first()).map_or("", |file| &file.name);
    let quoted = shell(first);
    out + &format!(
        "```\n\n`kquant hash` prints the hash of every tensor, and `kquant verify` compares a file with such a list:\n\n```console\n\
         $ kquant hash {quoted} > model.sha256\n$ kquant verify copy.gguf --manifest model.sha256\n```\n"
    )
}

/// Returns `text` as one line that ends no cell of a table and begins no markup.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || "|<>`[]".contains(c) { ' ' } else { c }).collect()
}

/// Returns the name of a file as an address.
fn address(name: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    name.bytes().map(byte).collect()
}

/// Returns `text` as one word of a shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let text = line(text);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
