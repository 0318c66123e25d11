//! `kquant calibrate`.

use std::io::{self, Write};
use std::path::PathBuf;

use kquant::context::Context;
use kquant::job::{CalibrationText, TextSource, importance};
use kquant::model::Model;
use kquant::outputs;
use kquant::statistics::{Fishers, Form, Half, HessianFile, Labelled, Text, Unreached, Wanted, gather, work};
use kquant::text::Part;
use kquant_formats::imatrix::Imatrix;

use super::calibration::OwnTextArgs;
use super::printable::printable_path;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, notes};
use kquant::context::Unit;

/// Make an importance matrix: run a text through a model and sum the squares of what enters each linear layer
///
/// The result is llama-imatrix's, in its GGUF form or, for a name that ends in .dat, its legacy form. Sums are exact, so that long
/// texts do not saturate them. With --hessian the file holds the outer products of each layer's inputs as well, with --fisher also
/// those of the loss's gradients by its outputs, which take one pass back through the model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant calibrate Llama-3.2-1B/ --text calibration.txt -o imatrix.gguf
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_M --imatrix imatrix.gguf
  kquant calibrate Llama-3.2-1B/ --text calibration.txt --hessian -o statistics.gguf
  kquant calibrate Llama-3.2-1B/ --text calibration.txt --fisher --products bf16 -o statistics.gguf
  kquant calibrate Llama-3.2-1B/ --text calibration.txt --fisher --part 1/4 -o part-1.gguf
  kquant imatrix merge part-1.gguf part-2.gguf part-3.gguf part-4.gguf -o statistics.gguf")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Text to run, UTF-8, a file or a pipe; without one the model writes its own.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    #[command(flatten)]
    own: OwnTextArgs,
    /// The importance matrix to write: .gguf or .dat.
    #[arg(long, short)]
    out: PathBuf,
    /// Collect outer products too, for encoders that use the full Hessian; needs a name that ends in .gguf.
    #[arg(long)]
    hessian: bool,
    /// Collect Fisher matrices of each layer's outputs too, by a backward pass, for encoders that feed errors back over rows;
    /// includes --hessian.
    #[arg(long)]
    fisher: bool,
    /// Seed of the model's own text and of the labels that the backward pass draws from the model's predictions.
    ///
    /// 0 by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Use only part I of N of the text; the files of all parts add up to that of the whole.
    #[arg(long, value_name = "I/N", default_value = "1/1", hide_default_value = true)]
    part: Part,
    /// Collect for the output projection as well; where it is tied, for the token embeddings.
    #[arg(long)]
    output_tensor: bool,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    text_args: TextArgs,
    #[command(flatten)]
    means: RunArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let form = Form::of(&args.out)?;
    let hessian = args.hessian || args.fisher;
    if hessian && form == Form::Dat {
        anyhow::bail!("{}: the legacy form cannot hold Hessians; end the name in .gguf", args.out.display());
    }
    if args.seed.is_some() && !args.fisher && args.text.is_some() && args.own.own_text.is_none() {
        anyhow::bail!(
            "--seed: nothing is drawn; it is for --fisher and for text that the model writes (--own-text)"
        );
    }
    // Checked before the work, so that a bad path costs nothing.
    let mut inputs = outputs::model_files(&args.model);
    inputs.extend(args.text.clone());
    outputs::check(&inputs, &[&args.out])?;
    outputs::try_start(&[&args.out], args.force)?;
    let model = args.text_args.open_to_embed(&args.model)?;
    if args.fisher || args.output_tensor {
        model.check_predicts()?;
    }
    notes::print(model.opened())?;
    let source = args.own.source(args.text.as_deref())?;
    if !args.means.quiet {
        args.own.note(&source)?;
    }
    let told = args.means.run(|| {
        let text = read(args, &source, &model)?;
        if hessian { statistics(args, &model, &text) } else { matrix(args, form, &model, &text) }
    })??;
    if !args.means.quiet {
        writeln!(io::stdout(), "{}: {told}", printable_path(&args.out))?;
    }
    Ok(Outcome::Done)
}

/// Reads the text, and lets the model write its part of it.
fn read(args: &Args, source: &TextSource, model: &Model) -> anyhow::Result<CalibrationText> {
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let text = source.read(model, args.text_args.cut(), args.seed.unwrap_or(0), &run);
    display.finish();
    Ok(text?)
}

/// Writes an importance matrix and says what it is of.
fn matrix(args: &Args, form: Form, model: &Model, text: &CalibrationText) -> anyhow::Result<String> {
    let (_, chunks) = args.part.cut(&text.chunks)?;
    let display = Display::of_parts(args.means.quiet);
    let context = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let matrix = importance(model, &chunks, &text.origin.path_name(), args.output_tensor, &context);
    display.finish();
    let matrix = matrix?;
    warn_of_unreached(&matrix, args.means.quiet)?;
    form.write(&matrix, &args.out, args.force)?;
    let (tensors, context) = (matrix.entries.len(), chunks.context());
    Ok(format!("{tensors} tensors, {} chunks of {context} tokens", chunks.len()))
}

/// Writes a statistics file and says what it is of.
fn statistics(args: &Args, model: &Model, text: &CalibrationText) -> anyhow::Result<String> {
    let (name, chunks) = (text.origin.path_name(), &text.chunks);
    let text = Text { name: &name, sha256: &text.origin.sha256, chunks, part: args.part };
    let cancel = cancel_on_signal()?;
    let part = args.part.cut(chunks)?.1;
    let work = if args.fisher { Fishers::work(model, &part) } else { work(model, &part) };
    let display = Display::new(work, Unit::Work, args.means.quiet);
    let run = Context { memory: args.means.memory, cancel, progress: &display };
    let wanted =
        Wanted { output_tensor: args.output_tensor, fisher: args.fisher.then_some(args.seed.unwrap_or(0)) };
    let gathered = gather(model, &text, (&args.out, args.force), wanted, &run);
    display.finish();
    let labelled = gathered?.labelled.map_or_else(String::new, |of| told(&of, args.seed.unwrap_or(0)));
    let file = HessianFile::open(&args.out)?;
    warn_of_unreached(file.importance(), args.means.quiet)?;
    Ok(summary(&file) + &labelled)
}

/// One line on experts of which the text says nothing.
fn warn_of_unreached(matrix: &Imatrix, quiet: bool) -> io::Result<()> {
    let unreached = Unreached::of(matrix, |_| None).told().filter(|_| !quiet);
    unreached.map_or(Ok(()), |told| writeln!(io::stderr(), "warning: {told}"))
}

/// Lines on a backward pass.
fn told(Labelled { loss, sums }: &Labelled, seed: u64) -> String {
    let seconds =
        [loss.forward, loss.head, loss.backward.saturating_sub(*sums), *sums].map(|t| t.as_secs_f64());
    let [forward, head, backward, sums] = seconds;
    let mean = loss.sum / loss.tokens.max(1) as f64;
    format!(
        "\nlabels drawn by seed {seed}: mean loss {mean:.4} nats\nforward {forward:.1} s, output {head:.1} s, backward \
         {backward:.1} s, sums for the Fisher matrices {sums:.1} s"
    )
}

/// One line on a statistics file.
pub(super) fn summary(file: &HessianFile) -> String {
    let of = file.description();
    let tensors: usize = of.groups.iter().map(|g| g.tensors.len()).sum();
    let (groups, chunks, context) = (of.groups.len(), of.chunks, of.cut.context);
    let tokens = |half: Half| file.groups().map(|g| g.tokens(0, half)).max().unwrap_or_default();
    let [train, held_out] = Half::ALL.map(tokens);
    let fishers = match of.fishers.as_ref().map_or(0, |all| all.tensors.len()) {
        0 => String::new(),
        all => format!(", Fisher matrices of {all} outputs"),
    };
    format!(
        "{tensors} tensors, Hessians of {groups} inputs{fishers}, {chunks} chunks of {context} tokens, {train} tokens to train \
         and {held_out} held out"
    )
}
