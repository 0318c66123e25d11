//! The part of the model that is to be pruned, and by which score.

use anyhow::bail;
use clap::ValueEnum;
use kquant::job::VocabSize;
use kquant::prune::{Amount, ExpertScore, LayerScore, Score};

use super::Args;

/// Values of `--score`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ScoreArg {
    /// What their absence costs when the others make up for it, to second order.
    SecondOrder,
    /// Mean square of the input times the squared norm of the column, and nothing is made up for.
    Wanda,
    /// The divergence of the model without them on a sample of the text; the others make up for it.
    Kl,
    /// What tokens lose that were routed to them, by the Fisher matrix of the layer's output.
    Absence,
    /// The mean of weight times norm of the output (REAP).
    Reap,
    /// How little they turn the stream (ShortGPT), and nothing is made up for.
    Shortgpt,
}

/// What is to be cut.
pub(super) enum PrunedPart<'a> {
    /// Tokens.
    Vocab(VocabSize),
    /// Channels of the feed-forward network.
    Channels(Amount, Score),
    /// Experts.
    Experts(Amount, ExpertScore),
    /// Key-value heads with their query heads.
    Heads(usize, Score),
    /// A number of layers.
    Layers(usize, LayerScore),
    /// The layers of these numbers.
    DropLayers(&'a [u32]),
}

impl<'a> PrunedPart<'a> {
    /// Returns the part that `args` ask for, of which their parser lets one through at most.
    pub(super) fn of(args: &'a Args) -> anyhow::Result<Self> {
        let of_columns = [(ScoreArg::SecondOrder, Score::SecondOrder), (ScoreArg::Wanda, Score::Wanda)];
        let part = if let Some(width) = args.ffn {
            return Ok(Self::Channels(width, score(args, "--ffn", of_columns)?));
        } else if let Some(number) = args.heads {
            return Ok(Self::Heads(number, score(args, "--heads", of_columns)?));
        } else if let Some(amount) = args.experts {
            let scores = [(ScoreArg::Absence, ExpertScore::Absence), (ScoreArg::Reap, ExpertScore::Reap)];
            return Ok(Self::Experts(amount, score(args, "--experts", scores)?));
        } else if let Some(number) = args.layers {
            let scores =
                [(ScoreArg::Kl, LayerScore::Divergence), (ScoreArg::Shortgpt, LayerScore::Influence)];
            return Ok(Self::Layers(number, score(args, "--layers", scores)?));
        } else if let Some(cut) = &args.drop_layers {
            Self::DropLayers(cut)
        } else if let Some(number) = args.vocab {
            Self::Vocab(VocabSize::Number(number))
        } else if let Some(kl) = args.vocab_kl {
            Self::Vocab(VocabSize::Divergence(kl))
        } else if args.keep_tokens.is_some() {
            Self::Vocab(VocabSize::AsAsked)
        } else {
            bail!(
                "nothing to prune: give --vocab N, --vocab-kl X, --keep-tokens FILE, --ffn WIDTH, --heads N, --experts N, --layers N or --drop-layers LIST"
            )
        };
        match args.score {
            None => Ok(part),
            Some(_) => {
                bail!("--score: tokens, and layers that are named, are chosen by no score; leave it out")
            }
        }
    }
}

/// Returns the score that `option` is asked to choose by, of the two `scores` that it has; the first one is the default.
fn score<S: Copy>(args: &Args, option: &str, scores: [(ScoreArg, S); 2]) -> anyhow::Result<S> {
    let asked = args.score.unwrap_or(scores[0].0);
    let names = scores
        .map(|(name, _)| name.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned()));
    match scores.iter().find(|(name, _)| *name == asked) {
        Some(&(_, score)) => Ok(score),
        None => bail!("--score: {option} chooses by {} or {}", names[0], names[1]),
    }
}
