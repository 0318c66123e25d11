//! `kquant prune --experts`.

use std::io::{self, Write};

use kquant::hash::bytes_sha256;
use kquant::job::{self, ExpertsReport, ExpertsRequest, Pruned, TextFile};
use kquant::model::{Model, Products};
use kquant::prune::{Amount, ExpertScore, experts_left};

use super::Args;
use super::choice::choose;
use super::written::Report;
use crate::cli::print_json;
use crate::cli::printable::printable_path;

/// Prunes experts by `text`, writes the result and tells of it.
pub(super) fn prune(
    args: &Args,
    model: &mut Model,
    text: &TextFile,
    (amount, score): (Amount, ExpertScore),
) -> anyhow::Result<()> {
    experts_left(model, amount)?;
    if args.text_args.products.is_none() {
        model.compute_in(Products::Bf16);
    }
    let chunks = args.text_args.chunks(model, text)?;
    let text_sha256 = &bytes_sha256(text.content.as_bytes());
    let request = ExpertsRequest { amount, score, seed: args.seed, chunks: &chunks, text_sha256 };
    let Pruned { model: smaller, report } = choose(args, |run| job::prune_experts(model, &request, run))?;
    let kind = args.kind.as_deref().unwrap_or("COPY");
    let report = Report::of_written(args, model, (smaller, kind), &report)?;
    match args.json {
        true => print_json(&report),
        false => Ok(tell(args, &report, score)?),
    }
}

fn tell(args: &Args, report: &Report<ExpertsReport>, score: ExpertScore) -> io::Result<()> {
    let (of, out) = (report.pruned, &mut io::stdout().lock());
    let path = printable_path(&args.out);
    writeln!(out, "{path}: {} of {} experts in each layer", of.experts, of.experts_before)?;
    writeln!(out, "parameters: {} of {}", of.parameters, of.parameters_before)?;
    writeln!(out, "{}", report.bytes_line())?;
    if score == ExpertScore::Absence {
        writeln!(out, "sum of the layers' prices: {:.6} nats per token", of.price)?;
    }
    writeln!(out, "measure the divergence with kquant perplexity --base, on another text")
}
