//! `kquant prune`.

mod channels;
mod choice;
mod experts;
mod heads;
mod layers;
mod look;
mod part;
mod vocab;
mod written;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kquant::job::TextFile;
use kquant::outputs;
use kquant::prune::Amount;

use super::running::{RunArgs, TextArgs};
use super::{Outcome, folder, notes};
use part::{PrunedPart, ScoreArg};

/// Make a model smaller by leaving out tokens, channels, heads, experts or layers that a text does not need
///
/// With --vocab kept are control, user-defined and byte tokens, the tokens of the texts, and then those to which the model gives most
/// probability over the texts. Texts that need no lost token are cut into the same tokens as before; others fall back to
/// shorter ones. Types stay the source's.
///
/// With --ffn, --heads and --layers the weights that stay are moved to make up for what is cut; types are those of the first layer, so
/// that a quantized model needs --type. What cannot be cut from a family is refused by name before the text is run.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("part").args(["vocab", "vocab_kl", "ffn", "heads", "experts", "layers", "drop_layers"]),
    after_help = "\
Examples:
  kquant prune gemma-3-270m.gguf -o gemma-3-270m-64k.gguf --vocab 65536 --text calibration.txt
  kquant prune Llama-3.2-1B/ -o llama-narrow.gguf --ffn 25% --text calibration.txt
  kquant prune Qwen3-30B-A3B/ -o qwen3-24b.gguf --experts 25% --text calibration.txt
  kquant prune Llama-3.2-1B/ -o llama-short.gguf --layers 2 --text calibration.txt
  kquant prune gemma-3-270m.gguf -o small.gguf --vocab-kl 0.005 --text english.txt --text code.txt --held-out eval.txt

Exit codes: 0 done, 2 wrong usage or unusable input.")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// The GGUF to write; or, as a name that ends in `/` or an empty folder, a Hugging Face folder that transformers loads.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Tokens to keep.
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Keep the fewest tokens that cost less than this divergence on the texts, in nats per token.
    #[arg(long, value_name = "NATS")]
    vocab_kl: Option<f64>,
    /// Channels of each layer's feed-forward network to keep, as 1280, or the share to cut, as 25%.
    #[arg(long, value_name = "WIDTH", conflicts_with_all = ["keep_tokens", "held_out"])]
    ffn: Option<Amount>,
    /// Key-value heads to cut of each layer, with the query heads that attend to them.
    #[arg(long, value_name = "N", conflicts_with_all = ["keep_tokens", "held_out"])]
    heads: Option<usize>,
    /// Experts of each layer to keep, as 48, or the share to cut, as 25%.
    #[arg(long, value_name = "N", conflicts_with_all = ["keep_tokens", "held_out"])]
    experts: Option<Amount>,
    /// Layers to cut: those whose absence costs least on a sample of the text.
    #[arg(long, value_name = "N", conflicts_with_all = ["keep_tokens", "held_out"])]
    layers: Option<usize>,
    /// Cut these layers, counted from 0; needs no text.
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["keep_tokens", "held_out"])]
    drop_layers: Option<Vec<u32>>,
    /// What is cut is chosen by this; by default the first that an option has. --ffn, --heads: second-order, wanda. --experts: absence,
    /// reap. --layers: kl, shortgpt.
    #[arg(long, value_name = "SCORE", hide_possible_values = true)]
    score: Option<ScoreArg>,
    /// With --ffn, --heads and --experts: what the labels of the backward pass are drawn by.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["vocab", "vocab_kl", "keep_tokens", "layers", "drop_layers"])]
    seed: u64,
    /// Keep these tokens in any case: one per line, its text as the vocabulary spells it, or `#` and its id.
    #[arg(long, value_name = "FILE")]
    keep_tokens: Option<PathBuf>,
    /// Text by which it is chosen what is kept; may be repeated.
    #[arg(long, value_name = "FILE", required_unless_present = "drop_layers")]
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
    /// Write a page for a browser: what is left of what and, on --held-out or the first --text, how far predictions are apart.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    html: Option<PathBuf>,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    text_args: TextArgs,
    #[command(flatten)]
    means: RunArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let part = PrunedPart::of(args)?;
    let mut inputs = outputs::model_files(&args.model);
    inputs.extend(args.text.iter().chain(&args.held_out).chain(&args.keep_tokens).cloned());
    let html: Vec<&Path> = args.html.iter().map(PathBuf::as_path).collect();
    match folder::is_asked(&args.out) {
        true => {
            outputs::check_folder(&args.out)?;
            outputs::check(&inputs, &html)?;
        }
        false => {
            outputs::check(&inputs, &html.iter().copied().chain([args.out.as_path()]).collect::<Vec<_>>())?
        }
    }
    outputs::try_start(&html, args.force)?;
    if !args.dry_run && !folder::is_asked(&args.out) {
        outputs::try_start(&[&args.out], args.force)?;
    }
    let mut model = args.text_args.open(&args.model)?;
    notes::print(model.opened())?;
    folder::check(&args.out, &model, args.kind.as_deref())?;
    match part {
        PrunedPart::Vocab(size) => vocab::prune(args, &model, &whole_text(args)?, size)?,
        PrunedPart::Channels(width, score) => {
            channels::prune(args, &mut model, &whole_text(args)?, (width, score))?
        }
        PrunedPart::Heads(cut, score) => heads::prune(args, &mut model, &whole_text(args)?, (cut, score))?,
        PrunedPart::Experts(amount, score) => {
            experts::prune(args, &mut model, &whole_text(args)?, (amount, score))?;
        }
        PrunedPart::Layers(number, score) => {
            layers::prune(args, &mut model, &whole_text(args)?, (number, score))?;
        }
        PrunedPart::DropLayers(cut) => layers::drop(args, &model, cut)?,
    }
    if let Some(path) = &args.html {
        look::write(args, path, &model)?;
    }
    Ok(Outcome::Done)
}

/// All texts as one, under the first one's name.
fn whole_text(args: &Args) -> anyhow::Result<TextFile> {
    let mut all: Option<TextFile> = None;
    for path in &args.text {
        let text = TextFile::read(path)?;
        match &mut all {
            None => all = Some(text),
            Some(all) => all.content += &text.content,
        }
    }
    all.context("no text: give --text FILE")
}
