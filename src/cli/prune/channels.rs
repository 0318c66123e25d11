//! `kquant prune --ffn`.

use std::io::{self, Write};

use kquant::hash::bytes_sha256;
use kquant::job::{self, ChannelsReport, ChannelsRequest, Pruned, TextFile};
use kquant::model::{Model, Products};
use kquant::prune::{Amount, Score};

use super::Args;
use super::choice::choose;
use super::written::Report;
use crate::cli::changed::kind_of;
use crate::cli::print_json;
use crate::cli::printable::printable_path;

/// Prunes channels of the feed-forward network by `text`, writes the result and tells of it.
pub(super) fn prune(
    args: &Args,
    model: &mut Model,
    text: &TextFile,
    wanted: (Amount, Score),
) -> anyhow::Result<()> {
    let kind = kind_of(args.kind.as_deref(), model, "ffn_down.weight")?;
    let Pruned { model: narrowed, report } = pruned(args, model, text, wanted)?;
    let report = Report::of_written(args, model, (narrowed, kind), &report)?;
    match args.json {
        true => print_json(&report),
        false => Ok(tell(args, &report, wanted.1)?),
    }
}

fn pruned(
    args: &Args,
    model: &mut Model,
    text: &TextFile,
    (width, score): (Amount, Score),
) -> anyhow::Result<Pruned<ChannelsReport>> {
    job::kept_channels(model, width)?;
    if args.text_args.products.is_none() {
        model.compute_in(Products::Bf16);
    }
    let chunks = args.text_args.chunks(model, text)?;
    let text_sha256 = &bytes_sha256(text.content.as_bytes());
    let request = ChannelsRequest { width, score, seed: args.seed, chunks: &chunks, text_sha256 };
    choose(args, |run| job::prune_channels(model, &request, run))
}

fn tell(args: &Args, report: &Report<ChannelsReport>, score: Score) -> io::Result<()> {
    let (of, out) = (report.pruned, &mut io::stdout().lock());
    writeln!(
        out,
        "{}: {} of {} channels in each layer",
        printable_path(&args.out),
        of.channels,
        of.channels_before
    )?;
    writeln!(out, "parameters: {} of {}", of.parameters, of.parameters_before)?;
    writeln!(out, "{}", report.bytes_line())?;
    if score == Score::SecondOrder {
        writeln!(out, "sum of the layers' prices: {:.6} nats per token", of.price)?;
    }
    writeln!(out, "measure the divergence with kquant perplexity --base, on another text")
}
