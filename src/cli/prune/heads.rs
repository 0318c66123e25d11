//! `kquant prune --heads`.

use std::io::{self, Write};

use kquant::hash::bytes_sha256;
use kquant::job::{self, HeadsReport, HeadsRequest, Pruned, TextFile};
use kquant::model::{Model, Products};
use kquant::prune::{Score, head_groups_left};

use super::Args;
use super::choice::choose;
use super::written::Report;
use crate::cli::changed::kind_of;
use crate::cli::print_json;
use crate::cli::printable::printable_path;

/// Prunes key-value heads with their query heads by `text`, writes the result and tells of it.
pub(super) fn prune(
    args: &Args,
    model: &mut Model,
    text: &TextFile,
    (cut, score): (usize, Score),
) -> anyhow::Result<()> {
    let kind = kind_of(args.kind.as_deref(), model, "attn_output.weight")?;
    head_groups_left(model, cut)?;
    if args.text_args.products.is_none() {
        model.compute_in(Products::Bf16);
    }
    let chunks = args.text_args.chunks(model, text)?;
    let text_sha256 = &bytes_sha256(text.content.as_bytes());
    let request = HeadsRequest { cut, score, seed: args.seed, chunks: &chunks, text_sha256 };
    let Pruned { model: smaller, report } = choose(args, |run| job::prune_heads(model, &request, run))?;
    let report = Report::of_written(args, model, (smaller, kind), &report)?;
    match args.json {
        true => print_json(&report),
        false => Ok(tell(args, &report, score)?),
    }
}

fn tell(args: &Args, report: &Report<HeadsReport>, score: Score) -> io::Result<()> {
    let (of, out) = (report.pruned, &mut io::stdout().lock());
    let (left, before, each) = (of.kv_heads, of.kv_heads_before, of.heads_of_each);
    writeln!(
        out,
        "{}: {left} of {before} key-value heads in each layer, {} of {} heads",
        printable_path(&args.out),
        left * each,
        before * each
    )?;
    writeln!(out, "parameters: {} of {}", of.parameters, of.parameters_before)?;
    writeln!(out, "{}", report.bytes_line())?;
    if score == Score::SecondOrder {
        writeln!(out, "sum of the layers' prices: {:.6} nats per token", of.price)?;
    }
    writeln!(out, "measure the divergence with kquant perplexity --base, on another text")
}
