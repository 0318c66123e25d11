//! `kquant teach`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use kquant::context::Context;
use kquant::hash::bytes_sha256;
use kquant::job::{self, TeachRequest, TextFile};
use kquant::model::Products;
use kquant::outputs;
use kquant::text::Part;
use kquant_formats::targets::Description;

use super::printable::printable_path;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, notes};

/// Write down what a model predicts over a text, so that smaller models can be trained by it without it
///
/// After each token the likeliest next tokens are kept with their probabilities, and what all others get together: 8 bytes a token and
/// 6 for each that is kept. The file holds the text, too: `kquant distill STUDENT --targets FILE` needs nothing else, and gives the
/// same bytes as with the teacher beside. Parts of a text can be made on several machines and are given side by side.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant teach Llama-3.2-1B/ --text calibration.txt -o teacher.gguf
  kquant teach Llama-3.2-1B/ --text calibration.txt --part 1/4 -o teacher-1.gguf
  kquant teach Llama-3.2-1B/ --text calibration.txt --student trimmed.gguf -o teacher.gguf
  kquant distill narrow.gguf --targets teacher.gguf -o trained.gguf

Exit codes: 0 done, 2 wrong usage or unusable input.")]
pub(super) struct Args {
    /// The teacher: a Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// The text.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Read the text in the tokens of this model, whose vocabulary is a part of the teacher's.
    #[arg(long, value_name = "MODEL", value_parser = crate::cli::hub::model)]
    student: Option<PathBuf>,
    /// Likeliest tokens that are kept after each token.
    #[arg(long, value_name = "N", default_value = "128")]
    top: NonZeroUsize,
    /// Use only part I of N of the text.
    #[arg(long, value_name = "I/N", default_value = "1/1", hide_default_value = true)]
    part: Part,
    /// The file to write, a GGUF.
    #[arg(long, short, value_name = "FILE.gguf")]
    out: PathBuf,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    text_args: TextArgs,
    #[command(flatten)]
    means: RunArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut inputs = outputs::model_files(&args.model);
    inputs.extend(args.student.iter().flat_map(|student| outputs::model_files(student)));
    inputs.push(args.text.clone());
    outputs::check(&inputs, &[&args.out])?;
    outputs::try_start(&[&args.out], args.force)?;
    let mut teacher = args.text_args.open(&args.model)?;
    notes::print(teacher.opened())?;
    if args.text_args.products.is_none() {
        teacher.compute_in(Products::Bf16);
    }
    let student = args.student.as_ref().map(|path| args.text_args.open(path)).transpose()?;
    let text = TextFile::read(&args.text)?;
    let chunks = args.text_args.chunks(student.as_ref().unwrap_or(&teacher), &text)?;
    let request = TeachRequest {
        chunks: &chunks,
        text_sha256: &bytes_sha256(text.content.as_bytes()),
        student: student.as_ref(),
        part: args.part,
        top: args.top.get(),
    };
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let made = args.means.run(|| job::teach(&teacher, &request, (&args.out, args.force), &run))?;
    display.finish();
    tell(args, &made?)?;
    Ok(Outcome::Done)
}

fn tell(args: &Args, of: &Description) -> io::Result<()> {
    if args.means.quiet {
        return Ok(());
    }
    writeln!(
        io::stdout(),
        "{}: the {} likeliest tokens after each of {} tokens, chunks {} to {} of {}",
        printable_path(&args.out),
        of.top,
        of.len() * of.context as u64,
        of.chunks.start + 1,
        of.chunks.end,
        of.of
    )
}
