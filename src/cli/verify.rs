//! `kquant verify`.

use std::io::{self, Write};
use std::path::PathBuf;

use kquant::hash::{Difference, Expected, compare};
use serde::Serialize;

use super::hash::shown;
use super::printable::{printable, printable_path};
use super::{Outcome, print_json};

/// Check a GGUF against a manifest: exit code 1 on any mismatch, missing or extra entry
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kquant verify model.gguf --manifest model.manifest.json")]
pub(super) struct Args {
    /// A GGUF; all files of a split one are checked.
    file: PathBuf,
    /// What it must be: JSON from `quantize --manifest`, or lines from `kquant hash` or `gguf-hash --sha256`.
    #[arg(long, value_name = "M")]
    manifest: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Serialize)]
struct Result<'a> {
    ok: bool,
    tensors: usize,
    differences: &'a [Difference],
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let expected = Expected::open(&args.manifest)?;
    let files = shown(&args.file, args.quiet)?;
    let differences = compare(&expected, &files);
    let tensors = files.iter().map(|f| f.tensors.len()).sum();
    if args.json {
        print_json(&Result { ok: differences.is_empty(), tensors, differences: &differences })?;
    } else {
        let mut out = io::stdout().lock();
        for difference in &differences {
            let line = match difference {
                Difference::Mismatch { what, expected, actual } => {
                    format!("mismatch: {what}: expected {expected}, found {actual}")
                }
                Difference::Missing { what } => {
                    format!("missing: {what} is in the manifest, not in the file")
                }
                Difference::Extra { what } => format!("extra: {what} is in the file, not in the manifest"),
            };
            // A manifest may hold any names.
            writeln!(out, "{}", printable(&line))?;
        }
        let name = printable_path(&args.file);
        match differences.len() {
            0 => writeln!(out, "{name}: as in the manifest ({tensors} tensors{})", coverage(&expected))?,
            n => writeln!(out, "{name}: differs from the manifest in {n} places")?,
        }
    }
    Ok(if differences.is_empty() { Outcome::Done } else { Outcome::CheckFailed })
}

/// What the manifest did not speak of, so that success does not promise too much.
fn coverage(expected: &Expected) -> &'static str {
    if expected.tensors.is_empty() {
        "; compared as a whole"
    } else if expected.metadata.is_empty() && expected.files.is_empty() {
        "; the manifest does not cover the metadata"
    } else {
        ""
    }
}
