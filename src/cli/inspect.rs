//! `kquant inspect`.

use std::io::{self, Write};
use std::path::PathBuf;

use kquant::arch;
use kquant::checkpoint::{self, Opened, Origin, TensorInfo};
use kquant_formats::gguf::{Array, Metadata, Value};
use serde_json::{Value as Json, json};

use super::printable::{printable, printable_path};
use super::{Outcome, bytes, notes, print_json, table};

/// Elements of an array that are shown.
const ARRAY_SHOWN: usize = 8;
/// Characters of a string that are shown.
const STRING_SHOWN: usize = 100;

/// Show metadata and tensors of a GGUF or a safetensors checkpoint
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kquant inspect model.gguf\n  kquant inspect checkpoint/ --json | jq .tensors"
)]
pub(super) struct Args {
    /// A GGUF, a safetensors file or a Hugging Face folder.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Print JSON, arrays in full.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let opened = checkpoint::open(&args.model)?;
    notes::print(&opened)?;
    if let Some(refusal) = &opened.refusal {
        writeln!(io::stderr(), "note: {}: {refusal}", args.model.display())?;
    }
    if args.json {
        print_json(&as_json(&opened))?;
    } else {
        print_text(&opened)?;
    }
    Ok(Outcome::Done)
}

fn metadata(opened: &Opened) -> Option<&Metadata> {
    match &opened.origin {
        Origin::Gguf { metadata } => Some(metadata),
        Origin::HuggingFace { .. } => None,
    }
}

/// Returns the name of the family in GGUF, or the reason why there is none. A folder without a configuration has no family.
fn family(opened: &Opened) -> Option<Result<String, String>> {
    match &opened.origin {
        Origin::HuggingFace { folder } => {
            let path = folder.join("config.json");
            path.exists().then(|| {
                let config = arch::Config::open(&path).map_err(|error| error.to_string())?;
                arch::find(&config)
                    .map(|family| family.gguf_name().to_owned())
                    .map_err(|error| error.to_string())
            })
        }
        Origin::Gguf { metadata } => {
            let name = metadata.get("general.architecture")?.as_str()?;
            Some(match arch::graph(name) {
                Some(_) => Ok(name.to_owned()),
                None => Err(format!(
                    "{name} is quantized, but cannot be run, so that it is neither calibrated nor pruned; docs/architectures.md lists what can"
                )),
            })
        }
    }
}

fn weights(tensor: &TensorInfo) -> u64 {
    tensor.shape.iter().product()
}

fn print_text(opened: &Opened) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for file in &opened.files {
        writeln!(out, "{}", printable_path(file))?;
    }
    if let Some(quantization) = &opened.quantization {
        let state = if quantization.refusal.is_some() { ", not supported" } else { "" };
        writeln!(out, "\nquantized: {}{state}", printable(&quantization.describe()))?;
    }
    match family(opened) {
        Some(Ok(name)) if arch::graph(&name).is_some_and(|graph| !graph.causal) => writeln!(
            out,
            "\nfamily {name}, an encoder: can be calibrated up to --quality good and quantized, and its embeddings compared (kquant evaluate --embedding)"
        )?,
        Some(Ok(name)) => writeln!(out, "\nfamily {name}: can be run, calibrated and quantized")?,
        Some(Err(why)) => writeln!(out, "\nnot supported: {}", printable(&why))?,
        None => {}
    }
    if let Some(metadata) = metadata(opened) {
        writeln!(out, "\n{} keys", metadata.len())?;
        let rows: Vec<_> =
            metadata.iter().map(|(k, v)| vec![k.to_owned(), type_name(v).to_owned(), show(v)]).collect();
        table::write(&mut out, &rows, &[])?;
    }
    let tensors = opened.checkpoint.tensors();
    writeln!(out, "\n{} tensors (outermost dimension first)", tensors.len())?;
    let rows: Vec<_> =
        tensors.iter().map(|t| vec![t.name.clone(), t.dtype.to_owned(), format!("{:?}", t.shape)]).collect();
    table::write(&mut out, &rows, &[])?;
    let total: u64 = tensors.iter().map(weights).sum();
    let size: u64 = opened.files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    writeln!(
        out,
        "\n{total} weights, {} ({:.2} bits per weight, everything included)",
        bytes::show(size),
        size as f64 * 8.0 / total.max(1) as f64
    )
}

fn as_json(opened: &Opened) -> Json {
    let tensors: Vec<Json> = opened
        .checkpoint
        .tensors()
        .iter()
        .map(|t| json!({ "name": t.name, "type": t.dtype, "shape": t.shape, "file": t.shard }))
        .collect();
    let metadata: Option<serde_json::Map<_, _>> = metadata(opened).map(|m| {
        m.iter().map(|(k, v)| (k.to_owned(), json!({ "type": type_name(v), "value": to_json(v) }))).collect()
    });
    let quantization = opened
        .quantization
        .as_ref()
        .map(|q| json!({ "method": q.method, "details": q.details, "supported": q.refusal.is_none() }));
    let family = family(opened).and_then(Result::ok);
    json!({ "files": opened.files, "quantization": quantization, "family": family, "metadata": metadata, "tensors": tensors })
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::U8(_) => "u8",
        Value::I8(_) => "i8",
        Value::U16(_) => "u16",
        Value::I16(_) => "i16",
        Value::U32(_) => "u32",
        Value::I32(_) => "i32",
        Value::F32(_) => "f32",
        Value::Bool(_) => "bool",
        Value::String(_) => "str",
        Value::U64(_) => "u64",
        Value::I64(_) => "i64",
        Value::F64(_) => "f64",
        Value::Array(array) => match array {
            Array::U8(_) => "[u8]",
            Array::I8(_) => "[i8]",
            Array::U16(_) => "[u16]",
            Array::I16(_) => "[i16]",
            Array::U32(_) => "[u32]",
            Array::I32(_) => "[i32]",
            Array::F32(_) => "[f32]",
            Array::Bool(_) => "[bool]",
            Array::String(_) => "[str]",
            Array::U64(_) => "[u64]",
            Array::I64(_) => "[i64]",
            Array::F64(_) => "[f64]",
        },
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::F32(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F64(v) => json!(v),
        Value::Array(array) => match array {
            Array::U8(v) => json!(v),
            Array::I8(v) => json!(v),
            Array::U16(v) => json!(v),
            Array::I16(v) => json!(v),
            Array::U32(v) => json!(v),
            Array::I32(v) => json!(v),
            Array::F32(v) => json!(v),
            Array::Bool(v) => json!(v),
            Array::String(v) => json!(v),
            Array::U64(v) => json!(v),
            Array::I64(v) => json!(v),
            Array::F64(v) => json!(v),
        },
    }
}

/// One line, shortened. Strings are escaped, since a file may hold anything.
fn show(value: &Value) -> String {
    match to_json(value) {
        Json::Array(values) => {
            let shown: Vec<String> =
                values.iter().take(ARRAY_SHOWN).map(|v| shorten(&v.to_string())).collect();
            let more = if values.len() > ARRAY_SHOWN { ", ..." } else { "" };
            format!("{} values: {}{more}", values.len(), shown.join(", "))
        }
        other => shorten(&other.to_string()),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(STRING_SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
