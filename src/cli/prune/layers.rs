//! `kquant prune --layers` and `--drop-layers`.

use std::io::{self, Write};

use kquant::hash::bytes_sha256;
use kquant::job::{self, LayersReport, LayersRequest, Pruned, TextFile};
use kquant::model::{Model, Products};
use kquant::prune::{LayerScore, layers_at_a_time};

use super::Args;
use super::choice::choose;
use super::written::Report;
use crate::cli::changed::kind_of;
use crate::cli::print_json;
use crate::cli::printable::printable_path;

/// Cuts a number of layers by `text`, writes the result and tells of it.
pub(super) fn prune(
    args: &Args,
    model: &mut Model,
    text: &TextFile,
    (cut, score): (usize, LayerScore),
) -> anyhow::Result<()> {
    let kind = match score {
        LayerScore::Divergence => kind_of(args.kind.as_deref(), model, "ffn_down.weight")?,
        LayerScore::Influence => args.kind.as_deref().unwrap_or("COPY"),
    };
    layers_at_a_time(model, cut)?;
    if args.text_args.products.is_none() {
        model.compute_in(Products::Bf16);
    }
    let chunks = args.text_args.chunks(model, text)?;
    let text_sha256 = &bytes_sha256(text.content.as_bytes());
    let request = LayersRequest { cut, score, chunks: &chunks, text_sha256 };
    let Pruned { model: shorter, report } = choose(args, |run| job::prune_layers(model, &request, run))?;
    told(args, Report::of_written(args, model, (shorter, kind), &report)?)
}

/// Cuts the layers `cut`, writes the result and tells of it.
pub(super) fn drop(args: &Args, model: &Model, cut: &[u32]) -> anyhow::Result<()> {
    let Pruned { model: shorter, report } = job::drop_layers(model.converted(), cut)?;
    let kind = args.kind.as_deref().unwrap_or("COPY");
    told(args, Report::of_written(args, model, (shorter, kind), &report)?)
}

fn told(args: &Args, report: Report<LayersReport>) -> anyhow::Result<()> {
    match args.json {
        true => print_json(&report),
        false => Ok(tell(args, &report)?),
    }
}

fn tell(args: &Args, report: &Report<LayersReport>) -> io::Result<()> {
    let (of, out) = (report.pruned, &mut io::stdout().lock());
    let cut: Vec<String> = of.cut.iter().map(u32::to_string).collect();
    let path = printable_path(&args.out);
    writeln!(out, "{path}: {} of {} layers, without {}", of.layers, of.layers_before, cut.join(", "))?;
    writeln!(out, "parameters: {} of {}", of.parameters, of.parameters_before)?;
    writeln!(out, "{}", report.bytes_line())?;
    for cost in &of.costs {
        let last = cost.first as usize + cost.count - 1;
        let names = if cost.count == 1 { format!("{last}") } else { format!("{} to {last}", cost.first) };
        let kl = cost.kl.map_or_else(String::new, |kl| format!("{kl:.6} nats per token, "));
        writeln!(out, "without {names} alone: {kl}block influence {:.4}", cost.influence)?;
    }
    if let Some(of) = of.made_up {
        let used = if of.kl < of.kl_before { "used" } else { "not used" };
        writeln!(
            out,
            "divergence on held-out text: {:.6} nats per token; with weights that make up for the layers {:.6} ({used})",
            of.kl_before, of.kl
        )?;
    }
    writeln!(out, "measure the divergence with kquant perplexity --base, on another text")
}
