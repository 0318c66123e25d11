//! `--prune` and `--distill`: the model made smaller, and trained, before it is quantized.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use kquant::context::Context;
use kquant::convert::Converted;
use kquant::hash::bytes_sha256;
use kquant::job::{
    self, ChannelsRequest, ExpertsRequest, HeadsRequest, LayersRequest, TextFile, VocabRequest, VocabSize,
};
use kquant::model::{Model, Products};
use kquant::prune::{Amount, ExpertScore, LayerScore, Score};
use tempfile::TempDir;

use super::{Args, distillation, means};
use crate::cli::changed::{Destination, kind_of};
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// One thing that is cut, and how much of it is left.
#[derive(Debug, Clone, Copy)]
pub(super) enum PruneStep {
    /// Tokens.
    Vocab(VocabSize),
    /// Channels of the feed-forward network.
    Channels(Amount),
    /// Key-value heads of each layer, with the query heads that attend to them.
    Heads(usize),
    /// Experts.
    Experts(Amount),
    /// Layers.
    Layers(usize),
}

impl PruneStep {
    /// Returns the end of the names of the weights that are changed to make up for what is cut, if any are.
    fn changes(self) -> Option<&'static str> {
        match self {
            Self::Vocab(_) | Self::Experts(_) => None,
            Self::Channels(_) | Self::Layers(_) => Some("ffn_down.weight"),
            Self::Heads(_) => Some("attn_output.weight"),
        }
    }
}

impl FromStr for PruneStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, amount) = text.split_once('=').unwrap_or((text, ""));
        let number = |e: &dyn std::fmt::Display| format!("{what}: `{amount}`: {e}");
        match what {
            "vocab" => amount.parse().map(VocabSize::Number).map(Self::Vocab).map_err(|e| number(&e)),
            "vocab-kl" => amount.parse().map(VocabSize::Divergence).map(Self::Vocab).map_err(|e| number(&e)),
            "ffn" => amount.parse().map(Self::Channels),
            "heads" => amount.parse().map(Self::Heads).map_err(|e| number(&e)),
            "experts" => amount.parse().map(Self::Experts),
            "layers" => amount.parse().map(Self::Layers).map_err(|e| number(&e)),
            _ => Err(format!(
                "`{text}` is none of vocab=N, vocab-kl=NATS, ffn=WIDTH, heads=N, experts=N and layers=N"
            )),
        }
    }
}

/// A smaller model in a temporary folder, which disappears with this.
pub(super) struct Smaller {
    _folder: TempDir,
    /// Path of the GGUF in it.
    pub(super) path: PathBuf,
}

impl Smaller {
    /// Writes `changed`, which was made of the model at `from`, with weights of the type `kind`.
    fn write(args: &Args, from: &Path, changed: Converted, kind: &str) -> anyhow::Result<Self> {
        let folder =
            tempfile::tempdir().context("cannot make a temporary folder; set TMPDIR to one with room")?;
        let path = folder.path().join("smaller.gguf");
        let (text_args, means) = (&args.text_args, &means(args));
        let (asked, force, dry_run) = (None, false, false);
        let target = Destination { model: from, out: &path, asked, kind, force, dry_run, text_args, means };
        target.write(changed)?;
        Ok(Self { _folder: folder, path })
    }
}

/// Makes the model smaller as `args` say, one step after the other, and trains it then; `None` if nothing is to be done.
pub(super) fn smaller(args: &Args) -> anyhow::Result<Option<Smaller>> {
    let mut smaller: Option<Smaller> = None;
    if args.prune.is_empty() && args.distill.is_none() {
        return Ok(None);
    }
    let text = args.calibration.calibrate.as_deref().filter(|path| path.is_file());
    let text = text
        .context("--prune and --distill go by a text: give --calibrate FILE, which is read more than once")?;
    let text = TextFile::read(text)?;
    for &cut in &args.prune {
        let from = smaller.as_ref().map_or(&args.model, |smaller| &smaller.path);
        let model = args.text_args.open(from)?;
        let kind = cut.changes().map_or(Ok("COPY"), |of| kind_of(None, &model, of))?;
        let changed = pruned(args, model, &text, cut)?;
        smaller = Some(Smaller::write(args, from, changed, kind)?);
    }
    if let Some(tokens) = args.distill {
        let from = smaller.as_ref().map_or(&args.model, |smaller| &smaller.path);
        let student = args.text_args.open(from)?;
        let kind = kind_of(None, &student, ".weight")?;
        if let Some(changed) = distillation::distilled(args, student, &text, tokens)? {
            smaller = Some(Smaller::write(args, from, changed, kind)?);
        }
    }
    Ok(smaller)
}

/// Cuts `cut` of `model` by `text`.
fn pruned(args: &Args, mut model: Model, text: &TextFile, cut: PruneStep) -> anyhow::Result<Converted> {
    let sha256 = bytes_sha256(text.content.as_bytes());
    if !matches!(cut, PruneStep::Vocab(_)) && args.text_args.products.is_none() {
        model.compute_in(Products::Bf16);
    }
    if let PruneStep::Channels(width) = cut {
        job::kept_channels(&model, width)?;
    }
    let (tokens, chunks) = text.tokens_and_chunks(&model, args.text_args.cut())?;
    let display = Display::of_parts(args.quiet);
    let run = &Context { memory: args.memory, cancel: cancel_on_signal()?, progress: &display };
    let (chunks, text_sha256, seed) = (&chunks, &*sha256, args.calibration.seed);
    let (model, score) = (&model, Score::SecondOrder);
    let cut_down = || -> anyhow::Result<Converted> {
        Ok(match cut {
            PruneStep::Vocab(size) => {
                let request = VocabRequest { chunks, tokens: &tokens, text_sha256, asked: &[], size };
                job::prune_vocab(model, &request, run)?.model
            }
            PruneStep::Channels(width) => {
                let request = ChannelsRequest { width, score, seed, chunks, text_sha256 };
                job::prune_channels(model, &request, run)?.model
            }
            PruneStep::Heads(cut) => {
                job::prune_heads(model, &HeadsRequest { cut, score, seed, chunks, text_sha256 }, run)?.model
            }
            PruneStep::Experts(amount) => {
                let score = ExpertScore::Absence;
                let request = ExpertsRequest { amount, score, seed, chunks, text_sha256 };
                job::prune_experts(model, &request, run)?.model
            }
            PruneStep::Layers(cut) => {
                let score = LayerScore::Divergence;
                job::prune_layers(model, &LayersRequest { cut, score, chunks, text_sha256 }, run)?.model
            }
        })
    };
    let changed = means(args).run(cut_down)?;
    display.finish();
    changed
}
