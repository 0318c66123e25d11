//! `kquant prune --ffn`.

use std::io::{self, Write};

use kquant::context::Context;
use kquant::hash::bytes_sha256;
use kquant::job::{self, ChannelsReport, ChannelsRequest, Narrowed, TextFile};
use kquant::model::{Model, Products};
use kquant::prune::{Score, Width};

use super::Args;
use crate::cli::printable::printable_path;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// Values of `--score`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ScoreArg {
    /// What their absence costs when the others make up for it, to second order.
    SecondOrder,
    /// Mean square of the input times the squared norm of the column, and nothing is made up for.
    Wanda,
}

/// Prunes channels of `model` by `text`.
pub(super) fn narrowed(
    args: &Args,
    model: &mut Model,
    (text, width): (&TextFile, Width),
) -> anyhow::Result<Narrowed> {
    job::kept_channels(model, width)?;
    if args.text_args.products.is_none() {
        model.compute_in(Products::Bf16);
    }
    let chunks = args.text_args.chunks(model, text)?;
    let request = ChannelsRequest {
        width,
        score: match args.score {
            ScoreArg::SecondOrder => Score::SecondOrder,
            ScoreArg::Wanda => Score::Wanda,
        },
        seed: args.seed,
        chunks: &chunks,
        text_sha256: &bytes_sha256(text.content.as_bytes()),
    };
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let narrowed = args.means.run(|| job::prune_channels(model, &request, &run))?;
    display.finish();
    Ok(narrowed?)
}

pub(super) fn tell(args: &Args, of: &ChannelsReport, bytes: (u64, u64)) -> io::Result<()> {
    let out = &mut io::stdout().lock();
    let share = bytes.1 as f64 / bytes.0.max(1) as f64;
    writeln!(
        out,
        "{}: {} of {} channels in each layer",
        printable_path(&args.out),
        of.channels,
        of.channels_before
    )?;
    writeln!(out, "parameters: {} of {}", of.parameters, of.parameters_before)?;
    writeln!(out, "bytes: {} of {} ({share:.3})", bytes.1, bytes.0)?;
    if args.score == ScoreArg::SecondOrder {
        writeln!(out, "sum of the layers' prices: {:.6} nats per token", of.price)?;
    }
    writeln!(out, "measure the divergence with kquant perplexity --base, on another text")
}
