//! `kquant assemble`.

use std::fs;
use std::path::PathBuf;
use std::slice;

use kquant::context::{Context, Unit};
use kquant::{outputs, parts};

use super::progress::Display;
use super::running::cancel_on_signal;
use super::shards::print_file;
use super::{Outcome, print_json};

/// Make one GGUF of the parts that several machines encoded
///
/// The parts are those of `kquant quantize --part I/N -o FOLDER`. Their file has the bytes of a run without --part. Parts that are
/// missing, damaged or of another run are named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant quantize Llama-3.1-70B/ -o parts/ --type Q4_K_M --part 1/4     # and 2/4, 3/4, 4/4, on any machines
  kquant assemble parts/ -o llama-70b.gguf")]
pub(super) struct Args {
    /// The folder of the parts.
    folder: PathBuf,
    /// The GGUF to write.
    #[arg(long, short)]
    out: PathBuf,
    /// Replace an existing output.
    #[arg(long)]
    force: bool,
    /// Print JSON: file and hashes as `kquant hash --json` prints them.
    #[arg(long)]
    json: bool,
    /// No progress and no summary.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let entries = fs::read_dir(&args.folder).into_iter().flatten().filter_map(Result::ok);
    let inputs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    outputs::check(&inputs, &[&args.out])?;
    let display = Display::new(0, Unit::Bytes, args.quiet);
    let run = Context { memory: 0, cancel: cancel_on_signal()?, progress: &display };
    let written = parts::assemble(&args.folder, &args.out, args.force, &run);
    display.finish();
    let written = written?;
    if args.json {
        print_json(&slice::from_ref(&written))?;
    } else if !args.quiet {
        print_file(&written)?;
    }
    Ok(Outcome::Done)
}
