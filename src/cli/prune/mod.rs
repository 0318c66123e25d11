//! `kquant prune`.

mod channels;
mod folder;
mod vocab;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kquant::convert::Converted;
use kquant::job::{self, Fertility, Narrowed, Pruned, TextFile, VocabSize};
use kquant::model::Model;
use kquant::outputs;
use kquant::prune::Width;

use super::changed::{Target, bytes_of, kind_of};
use super::running::{RunArgs, TextArgs};
use super::{Outcome, notes, print_json};
use channels::ScoreArg;

/// Make a model smaller by leaving out tokens, or channels of the feed-forward network, that a text does not need
///
/// With --vocab kept are control, user-defined and byte tokens, the tokens of the texts, and then those to which the model gives most
/// probability over the texts. Texts that need no lost token are cut into the same tokens as before; others fall back to
/// shorter ones. Types stay the source's.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant prune gemma-3-270m.gguf -o gemma-3-270m-64k.gguf --vocab 65536 --text calibration.txt
  kquant prune Llama-3.2-1B/ -o llama-narrow.gguf --ffn 25% --text calibration.txt
  kquant prune gemma-3-270m.gguf -o small.gguf --vocab-kl 0.005 --text english.txt --text code.txt --held-out eval.txt

Exit codes: 0 done, 2 wrong usage or unusable input.")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    model: PathBuf,
    /// The GGUF to write; or, as a name that ends in `/` or an empty folder, a Hugging Face folder that transformers loads.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Tokens to keep.
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Keep the fewest tokens that cost less than this divergence on the texts, in nats per token.
    #[arg(long, value_name = "NATS", conflicts_with = "vocab")]
    vocab_kl: Option<f64>,
    /// Channels of each layer's feed-forward network to keep, as 1280, or the share to cut, as 25%. The weights that stay are moved to make up
    /// for those that are cut; one pass back and one forward over the text.
    #[arg(long, value_name = "WIDTH", conflicts_with_all = ["vocab", "vocab_kl", "keep_tokens", "held_out"])]
    ffn: Option<Width>,
    /// What channels are chosen by.
    #[arg(long, value_name = "SCORE", default_value = "second-order", requires = "ffn")]
    score: ScoreArg,
    /// With --ffn: what the labels of the backward pass are drawn by.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "ffn")]
    seed: u64,
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
    #[arg(long = "type", value_name = "TYPE", value_parser = ["F32", "F16", "BF16", "COPY"])]
    kind: Option<String>,
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
struct Report<'a, R> {
    #[serde(flatten)]
    pruned: &'a R,
    bytes_before: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out: Option<Fertility>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let size = match (args.vocab, args.vocab_kl, &args.keep_tokens, args.ffn) {
        (.., Some(_)) => None,
        (Some(number), ..) => Some(VocabSize::Number(number)),
        (_, Some(kl), ..) => Some(VocabSize::Divergence(kl)),
        (_, _, Some(_), _) => Some(VocabSize::AsAsked),
        _ => bail!("nothing to prune: give --vocab N, --vocab-kl X, --keep-tokens FILE or --ffn WIDTH"),
    };
    let mut inputs = outputs::model_files(&args.model);
    inputs.extend(args.text.iter().chain(&args.held_out).chain(&args.keep_tokens).cloned());
    match folder::is_asked(&args.out) {
        true => outputs::check_folder(&args.out)?,
        false => outputs::check(&inputs, &[&args.out])?,
    }
    if !args.dry_run && !folder::is_asked(&args.out) {
        outputs::try_start(&[&args.out], args.force)?;
    }
    let mut model = args.text_args.open(&args.model)?;
    notes::print(model.opened())?;
    folder::check(args, &model)?;
    let text = whole_text(&args.text)?;
    match (size, args.ffn) {
        (Some(size), _) => vocabulary(args, &model, &text, size)?,
        (None, Some(width)) => feed_forward(args, &mut model, (&text, width))?,
        (None, None) => {}
    }
    Ok(Outcome::Done)
}

/// Trims the vocabulary to `size`, writes the result and tells of it.
fn vocabulary(args: &Args, model: &Model, text: &TextFile, size: VocabSize) -> anyhow::Result<()> {
    let asked = args.keep_tokens.as_deref().map(|path| vocab::asked(path, model)).transpose()?;
    let held_out = args.held_out.as_deref().map(TextFile::read).transpose()?;
    let pruned = args.means.run(|| vocab::pruned(args, model, text, &asked.unwrap_or_default(), size))??;
    let held_out =
        held_out.map(|text| job::fertility(model.converted(), &pruned.model, &text.content)).transpose()?;
    let Pruned { model: trimmed, report } = pruned;
    let bytes = write(args, trimmed, args.kind.as_deref().unwrap_or("COPY"))?;
    let report = Report { pruned: &report, bytes_before: bytes_of(model), bytes, held_out };
    match args.json {
        true => print_json(&report),
        false => Ok(vocab::tell(args, &report)?),
    }
}

/// Prunes channels of the feed-forward network, writes the result and tells of it.
fn feed_forward(args: &Args, model: &mut Model, wanted: (&TextFile, Width)) -> anyhow::Result<()> {
    let kind = match args.kind.as_deref() {
        Some(kind) if kind != "COPY" => kind,
        _ => kind_of(model)?,
    };
    let Narrowed { model: narrowed, report } = channels::narrowed(args, model, wanted)?;
    let (bytes_before, bytes) = (bytes_of(model), write(args, narrowed, kind)?);
    match args.json {
        true => print_json(&Report { pruned: &report, bytes_before, bytes, held_out: None }),
        false => Ok(channels::tell(args, &report, (bytes_before, bytes))?),
    }
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

/// Writes the model, unless nothing is to be written, and returns its bytes.
fn write(args: &Args, changed: Converted, kind: &str) -> anyhow::Result<u64> {
    if folder::is_asked(&args.out) {
        return folder::write(args, &changed);
    }
    let target = Target {
        model: &args.model,
        out: &args.out,
        kind,
        force: args.force,
        dry_run: args.dry_run,
        text_args: &args.text_args,
        means: &args.means,
    };
    target.write(changed)
}
