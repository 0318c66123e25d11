//! `kquant sample`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use kquant::context;
use kquant::context::Unit;
use kquant::model::Model;
use kquant::model::sample::{Sampled, Sampling, sample};
use kquant::{job, outputs};
use kquant_formats::partial::PartialFile;

use super::printable::printable_path;
use super::progress::Display;
use super::running::{ProductsArg, RunArgs, cancel_on_signal};
use super::{Outcome, notes, print_json};

/// Let a model write text of its own, many texts at once, to look at or to calibrate with
///
/// Each text begins as the model's texts do and has as many tokens as --context says; after an end of sequence a new text
/// begins within it. Tokens that are no text are left out of the file. The same options give the same bytes, for any number
/// of threads and any memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant sample Llama-3.2-1B/ --tokens 131072 --seed 0 -o own.txt
  kquant sample model-q8_0.gguf --tokens 32768 --context 256 --top-p 0.95 -o own.txt
  kquant calibrate Llama-3.2-1B/ --text own.txt -o imatrix.gguf

Exit codes: 0 done, 2 wrong usage or unusable input.")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Tokens to sample in all, rounded up to whole texts.
    #[arg(long, short = 'n', value_name = "N")]
    tokens: usize,
    /// The text file to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the random choices.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Tokens per text; by default 512, or the model's context if that is shorter.
    #[arg(long, short, value_name = "N")]
    context: Option<usize>,
    /// 1 draws as the model predicts; less makes likely tokens likelier, 0 takes the likeliest.
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Draw only from the likeliest tokens that reach this probability together.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Products of linear layers: f32, or bf16 with sums in f32, which is faster on processors with AVX512_BF16 and less
    /// exact.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    products: ProductsArg,
    /// Name of the pre-tokenizer, where it is not recognised.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    /// Print the numbers of tokens and texts, the seed and the rate as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    means: RunArgs,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Report {
    tokens: usize,
    texts: usize,
    seed: u64,
    seconds: f64,
    tokens_per_second: f64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    // Checked before the work, so that a bad path costs nothing.
    outputs::check(&outputs::model_files(&args.model), &[&args.out])?;
    outputs::try_start(&[&args.out], args.force)?;
    let mut model = Model::open(&args.model, args.pre.as_deref())?;
    model.compute_in(args.products.into());
    notes::print(model.opened())?;
    let start = Instant::now();
    let sampled = args.means.run(|| sampled(args, &model))??;
    let seconds = start.elapsed().as_secs_f64();
    write(args, &model, &sampled)?;
    print(args, &sampled, seconds)?;
    Ok(Outcome::Done)
}

fn sampled(args: &Args, model: &Model) -> anyhow::Result<Sampled> {
    let sampling = Sampling {
        tokens: args.tokens,
        context: args.context.unwrap_or_else(|| job::default_context(model)),
        seed: args.seed,
        temperature: args.temperature,
        top_p: args.top_p,
    };
    let display = Display::new(args.tokens as u64, Unit::Work, args.means.quiet);
    let run = context::Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let sampled = sample(model, &sampling, &run);
    display.finish();
    Ok(sampled?)
}

/// Writes the texts, each followed by a line feed.
fn write(args: &Args, model: &Model, sampled: &Sampled) -> anyhow::Result<()> {
    let tokenizer = model.tokenizer()?;
    let text: String = sampled.texts().map(|text| tokenizer.decode(text) + "\n").collect();
    let mut file = PartialFile::create(&args.out, 0, args.force)?;
    file.fill(text.as_bytes())?;
    Ok(file.finish()?)
}

fn print(args: &Args, sampled: &Sampled, seconds: f64) -> anyhow::Result<()> {
    let (tokens, texts) = (sampled.tokens().len(), sampled.texts().count());
    let tokens_per_second = tokens as f64 / seconds;
    if args.json {
        return print_json(&Report { tokens, texts, seed: args.seed, seconds, tokens_per_second });
    }
    if !args.means.quiet {
        let path = printable_path(&args.out);
        writeln!(
            io::stdout(),
            "{path}: {tokens} tokens in {texts} texts by seed {}, {tokens_per_second:.0} tokens/s",
            args.seed
        )?;
    }
    Ok(())
}
