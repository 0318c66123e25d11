//! `kquant hash`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kquant::context::Unit;
use kquant::hash::{Digest, digest_with};
use kquant_formats::FormatError;

use super::printable::{printable, printable_path};
use super::progress::Display;
use super::{Outcome, print_json};

/// Print SHA-256 of a GGUF: each tensor, all tensor data, the metadata, the file
///
/// Lines `sha256 HEX FILE:TENSOR` and `sha256 HEX FILE` are those of llama.cpp's `gguf-hash --sha256`, which understands
/// them in turn. `sha256-metadata` covers what gguf-hash does not: keys, tokenizer, names, shapes, types.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  kquant hash model.gguf > model.sha256\n  kquant verify model.gguf --manifest model.sha256"
)]
pub(super) struct Args {
    /// A GGUF; all files of a split one are hashed.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
}

/// The hashes of the file at `path`, with progress.
pub(super) fn shown(path: &Path, quiet: bool) -> Result<Vec<Digest>, FormatError> {
    let display = Display::new(0, Unit::Bytes, quiet);
    let found = digest_with(path, &display);
    display.finish();
    found
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let files = shown(&args.file, args.quiet)?;
    if args.json {
        print_json(&files)?;
        return Ok(Outcome::Done);
    }
    let mut out = io::stdout().lock();
    for file in &files {
        // One file keeps the name as typed, which is what gguf-hash compares.
        let name = printable_path(if files.len() == 1 { &args.file } else { &file.path });
        for tensor in &file.tensors {
            writeln!(out, "{:<8}  {}  {name}:{}", "sha256", tensor.sha256, printable(&tensor.name))?;
        }
        writeln!(out, "{:<8}  {}  {name}", "sha256", file.data_sha256)?;
        writeln!(out, "sha256-metadata  {}  {name}", file.metadata_sha256)?;
        writeln!(out, "sha256-file  {}  {name}", file.sha256)?;
    }
    Ok(Outcome::Done)
}
