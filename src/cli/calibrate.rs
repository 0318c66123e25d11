//! `kquant calibrate`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kquant::calibrate::{Form, Importance, collect, work};
use kquant::evaluate::{Chunks, Run};
use kquant::model::Model;
use kquant_formats::imatrix::Imatrix;

use super::Outcome;
use super::progress::{Display, Unit};
use super::running::{Means, TextArgs, cancel_on_signal};

/// Make an importance matrix: run a text through a model and sum the squares of what enters each linear layer
///
/// The result is llama-imatrix's, in its GGUF form or, for a name that ends in .dat, its legacy form. Sums are exact, so that long
/// texts do not saturate them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant calibrate Llama-3.2-1B/ --text calibration.txt -o imatrix.gguf
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_M --imatrix imatrix.gguf")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    model: PathBuf,
    /// Text to run, UTF-8.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// The importance matrix to write: .gguf or .dat.
    #[arg(long, short)]
    out: PathBuf,
    /// Collect for the output projection as well.
    #[arg(long)]
    output_tensor: bool,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    text_args: TextArgs,
    #[command(flatten)]
    means: Means,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let form = Form::of(&args.out)?;
    // Tried before the work, so that a bad path costs nothing.
    drop(kquant_formats::partial::PartialFile::create(&args.out, 0, args.force)?);
    let model = Model::open(&args.model, args.text_args.pre.as_deref())?;
    let chunks = args.text_args.chunks(&model, &args.text)?;
    let matrix =
        args.means.run(|| importance(&model, &chunks, &args.text, args.output_tensor, &args.means))??;
    form.write(&matrix, &args.out, args.force)?;
    if !args.means.quiet {
        writeln!(
            io::stdout(),
            "{}: {} tensors, {} chunks of {} tokens",
            args.out.display(),
            matrix.entries.len(),
            chunks.len(),
            chunks.context()
        )?;
    }
    Ok(Outcome::Done)
}

/// The importance matrix of `model` on `chunks` of the text `name`.
pub(super) fn importance(
    model: &Model,
    chunks: &Chunks,
    name: &Path,
    with_output: bool,
    means: &Means,
) -> anyhow::Result<Imatrix> {
    let cancel = cancel_on_signal()?;
    let display = Display::new(work(model, chunks), Unit::Work, means.quiet);
    let run = Run { memory: means.memory, cancel, progress: &display };
    let mut importance = Importance::new(with_output);
    let collected = collect(model, chunks, &mut importance, with_output, &run);
    display.finish();
    collected?;
    Ok(importance.into_imatrix(&name.to_string_lossy(), chunks.context() as u32)?)
}
