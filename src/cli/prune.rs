//! `kquant prune`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kquant::context::{Context, Unit};
use kquant::encode::ENCODERS;
use kquant::job::{
    self, Fertility, Job, Outputs, PruneReport, Pruned, Resources, Statistics, TextFile, Types, VocabSize,
};
use kquant::model::Model;
use kquant::outputs;
use kquant::recipe::{self, Options};
use kquant::vocab::Tokenizer;

use super::printable::printable_path;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, notes, print_json};

/// Make a model smaller by leaving out tokens that a text does not need
///
/// Kept are control, user-defined and byte tokens, the tokens of the texts, and then those to which the model gives most
/// probability over the texts. Texts that need no lost token are cut into the same tokens as before; others fall back to
/// shorter ones. Types stay the source's.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant prune gemma-3-270m.gguf -o gemma-3-270m-64k.gguf --vocab 65536 --text calibration.txt
  kquant prune gemma-3-270m.gguf -o small.gguf --vocab-kl 0.005 --text english.txt --text code.txt --held-out eval.txt

Exit codes: 0 done, 2 wrong usage or unusable input.")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    model: PathBuf,
    /// The GGUF to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Tokens to keep.
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Keep the fewest tokens that cost less than this divergence on the texts, in nats per token.
    #[arg(long, value_name = "NATS", conflicts_with = "vocab")]
    vocab_kl: Option<f64>,
    /// Keep these tokens in any case: one per line, its text as the vocabulary spells it, or `#` and its id.
    #[arg(long, value_name = "FILE")]
    keep_tokens: Option<PathBuf>,
    /// Text whose tokens are kept, and over which probabilities are summed; may be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    text: Vec<PathBuf>,
    /// Text on which tokens before and after are compared.
    #[arg(long, value_name = "FILE")]
    held_out: Option<PathBuf>,
    /// Type of the weights: F32, F16 or BF16; by default each tensor keeps its own.
    #[arg(long = "type", value_name = "TYPE", default_value = "COPY", hide_default_value = true,
          value_parser = ["F32", "F16", "BF16", "COPY"])]
    kind: String,
    /// Only say what would be kept.
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON.
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

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    pruned: &'a PruneReport,
    bytes_before: u64,
    bytes: u64,
    held_out: Option<Fertility>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let size = match (args.vocab, args.vocab_kl, &args.keep_tokens) {
        (Some(number), ..) => VocabSize::Number(number),
        (_, Some(kl), _) => VocabSize::Divergence(kl),
        (.., Some(_)) => VocabSize::AsAsked,
        _ => bail!("nothing to prune: give --vocab N, --vocab-kl X or --keep-tokens FILE"),
    };
    let mut inputs = outputs::model_files(&args.model);
    inputs.extend(args.text.iter().chain(&args.held_out).chain(&args.keep_tokens).cloned());
    outputs::check(&inputs, &[&args.out])?;
    if !args.dry_run {
        outputs::try_start(&[&args.out], args.force)?;
    }
    let model = args.text_args.open(&args.model)?;
    notes::print(model.opened())?;
    let asked = args.keep_tokens.as_deref().map(|path| asked(path, &model)).transpose()?;
    let text = whole_text(&args.text)?;
    let held_out = args.held_out.as_deref().map(TextFile::read).transpose()?;
    let pruned = args.means.run(|| pruned(args, &model, &text, &asked.unwrap_or_default(), size))??;
    let held_out =
        held_out.map(|text| job::fertility(model.converted(), &pruned.model, &text.content)).transpose()?;
    let bytes_before = model.opened().files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    let Pruned { model: trimmed, report } = pruned;
    let bytes = write(args, trimmed)?;
    tell(args, &Report { pruned: &report, bytes_before, bytes, held_out })?;
    Ok(Outcome::Done)
}

/// All texts as one, under the first one's name.
fn whole_text(paths: &[PathBuf]) -> anyhow::Result<TextFile> {
    let mut all: Option<TextFile> = None;
    for path in paths {
        let text = TextFile::read(path)?;
        match &mut all {
            None => all = Some(text),
            Some(all) => all.content += &text.content,
        }
    }
    all.context("no text: give --text FILE")
}

/// The ids of the tokens that `path` lists.
fn asked(path: &Path, model: &Model) -> anyhow::Result<Vec<u32>> {
    let tokenizer = Tokenizer::from_metadata(model.metadata())?;
    let count = tokenizer.vocab_size() as u32;
    let ids: HashMap<&str, u32> = (0..count).map(|id| (tokenizer.text(id), id)).collect();
    let list = TextFile::read(path)?;
    let id = |(number, line): (usize, &str)| {
        let by_number = || line.strip_prefix('#')?.parse().ok().filter(|&id| id < count);
        ids.get(line).copied().or_else(by_number).with_context(|| {
            format!(
                "{}: line {}: {line:?} is no token: give its text as `kquant tokenize` shows it, or # and its id",
                path.display(),
                number + 1
            )
        })
    };
    list.content.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(id).collect()
}

fn pruned(
    args: &Args,
    model: &Model,
    text: &TextFile,
    asked: &[u32],
    size: VocabSize,
) -> anyhow::Result<Pruned> {
    let chunks = args.text_args.chunks(model, text)?;
    let display = Display::new(2 * kquant::evaluate::work(model, &chunks), Unit::Work, args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let pruned = job::prune_vocab(model, &chunks, text.content.as_bytes(), asked, size, &run);
    display.finish();
    Ok(pruned?)
}

/// Writes the model, unless nothing is to be written, and returns its bytes.
fn write(args: &Args, trimmed: kquant::convert::Converted) -> anyhow::Result<u64> {
    let job = Job {
        model: args.model.clone(),
        io: args.text_args.reading.io(),
        types: Types::FileType(Options::new(recipe::file_type(&args.kind)?)),
        statistics: Statistics::None,
        encoder: ENCODERS[0],
        metadata: None,
        overrides: Vec::new(),
        keep_split: false,
        pre: args.text_args.pre.clone(),
    };
    let prepared = job::prepare_changed(job, |_| trimmed)?;
    let bytes = prepared.plan.files.iter().map(|file| file.bytes).sum();
    if args.dry_run {
        return Ok(bytes);
    }
    let outputs = Outputs { model: args.out.clone(), manifest: None, report: None, force: args.force };
    let resources = Resources { memory: args.means.memory, threads: args.means.threads };
    let display = Display::new(prepared.tensor_bytes(), Unit::Bytes, args.means.quiet);
    let written = prepared.run(None, &outputs, &resources, cancel_on_signal()?, &display);
    display.finish();
    written?;
    Ok(bytes)
}

fn tell(args: &Args, report: &Report) -> anyhow::Result<()> {
    if args.json {
        return print_json(report);
    }
    let (of, out) = (report.pruned, &mut io::stdout().lock());
    let share = report.bytes as f64 / report.bytes_before.max(1) as f64;
    writeln!(out, "{}: {} of {} tokens", printable_path(&args.out), of.tokens, of.tokens_before)?;
    writeln!(out, "parameters: {} of {}", of.parameters, of.parameters_before)?;
    writeln!(out, "bytes: {} of {} ({share:.3})", report.bytes, report.bytes_before)?;
    writeln!(out, "divergence on the text: {:.6} nats per token", of.kl)?;
    if of.tokens < of.of_text {
        writeln!(out, "{} tokens of the text are lost", of.of_text - of.tokens)?;
    }
    if let Some(f) = &report.held_out {
        let per_character = |tokens: usize| tokens as f64 / f.characters.max(1) as f64;
        writeln!(
            out,
            "held-out text: {:.4} tokens per character, before {:.4}; {:.2} % of the tokens alike",
            per_character(f.tokens),
            per_character(f.tokens_before),
            100.0 * f.alike
        )?;
    }
    Ok(())
}
