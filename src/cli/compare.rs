//! `kquant compare`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use kquant::context::Context;
use kquant::evaluate::{self, Reference};
use kquant::job::TextFile;
use kquant::model::Model;
use kquant::outputs;
use kquant::report::{Inspected, ModelReport, related, samples};
use kquant::text::Chunks;
use kquant_formats::partial::PartialFile;

use super::printable::{printable_lines, printable_path};
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, notes, page, print_json};

/// Compare two files of one model: sizes, types, the error of each tensor and, on a text, what they predict
///
/// BASE is the original, MODEL what was made of it; both have the same tensors. With --html, the findings are one page without scripts
/// that any browser shows: what was made of what with hashes, types by layer and role, errors by tensor and, with --text, divergence by
/// position, the worst passages with the tokens that changed, and what both models write. Weights are read in pieces. Without --text,
/// models are compared that kquant cannot run, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant compare model-f16.gguf model-q4_k_m.gguf
  kquant compare Llama-3.2-1B/ llama-1b-q4_k_m.gguf --text wiki.test.raw --chunks 20 -o report.html
  kquant compare model-q8_0.gguf model-q4_0.gguf --json | jq '.tensors[] | [.name, .relative_squared_error]'

Exit codes: 0 done, 2 wrong usage or unusable input.")]
pub(super) struct Args {
    /// The original: a Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    base: PathBuf,
    /// What was made of it: the same kinds of files.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Compare predictions on this text, UTF-8; repeatable.
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Write the page.
    #[arg(long, short = 'o', value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Beginnings of the first text that both models continue; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 3)]
    samples: usize,
    /// Print all that the page shows as JSON.
    #[arg(long)]
    json: bool,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    text_args: TextArgs,
    #[command(flatten)]
    means: RunArgs,
}

/// Both models, ready to be run, and the texts.
struct Runnable {
    base: Model,
    model: Model,
    texts: Vec<(PathBuf, Chunks)>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut inputs = outputs::model_files(&args.base);
    inputs.extend(outputs::model_files(&args.model).into_iter().chain(args.text.iter().cloned()));
    let out: Vec<&Path> = args.html.iter().map(PathBuf::as_path).collect();
    outputs::check(&inputs, &out)?;
    outputs::try_start(&out, args.force)?;
    let pre = args.text_args.pre.as_deref();
    let (base, model) = (Inspected::open(&args.base, pre)?, Inspected::open(&args.model, pre)?);
    related(&base, &model)?;
    [&base, &model].into_iter().try_for_each(|of| notes::print(of.opened()))?;
    // A bad text shows before any work.
    let runnable = runnable(args)?;
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let report = args.means.run(|| report(args, (&base, &model), runnable.as_ref(), &run))?;
    display.finish();
    let report = report?;
    if let Some(path) = &args.html {
        PartialFile::finish_all(vec![page::of_report(path, &report, Vec::new(), args.force)?])?;
    }
    if args.json {
        print_json(&report)?;
    } else {
        write!(io::stdout(), "{}", printable_lines(&report.text()))?;
        if let Some(path) = &args.html {
            writeln!(io::stdout(), "{}", printable_path(path))?;
        }
    }
    Ok(Outcome::Done)
}

/// Opens the models to be run, if there is a text, and cuts the texts.
fn runnable(args: &Args) -> anyhow::Result<Option<Runnable>> {
    if args.text.is_empty() {
        return Ok(None);
    }
    let (base, model) = (args.text_args.open(&args.base)?, args.text_args.open(&args.model)?);
    if evaluate::pooling_of(&model).is_some() {
        bail!(
            "{}: is an embedding model, whose predictions of tokens mean nothing: leave out --text, and compare embeddings with \
             `kquant evaluate MODEL --embedding TEXT --base ORIGINAL`",
            printable_path(&args.model)
        );
    }
    model.ids_in(&base)?;
    let read = |path: &PathBuf| Ok((path.clone(), args.text_args.chunks(&model, &TextFile::read(path)?)?));
    let texts = args.text.iter().map(read).collect::<anyhow::Result<_>>()?;
    Ok(Some(Runnable { base, model, texts }))
}

fn report(
    args: &Args,
    (base, model): (&Inspected, &Inspected),
    runnable: Option<&Runnable>,
    run: &Context,
) -> anyhow::Result<ModelReport> {
    let mut report = ModelReport::read(Some(base), model, run)?;
    let Some(Runnable { base, model, texts }) = runnable else { return Ok(report) };
    let reference = Reference::Model(base);
    for (path, chunks) in texts {
        report.texts.push(page::on_text((&reference, model), (path, chunks), run)?);
    }
    if let (Some((_, chunks)), 1..) = (texts.first(), args.samples) {
        report.samples = Some(samples((base, model), chunks, args.samples, run)?);
    }
    Ok(report)
}
