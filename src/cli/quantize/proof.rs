//! `--verify`: the result scored against its source.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use kquant::context;
use kquant::evaluate;
use kquant::evaluate::Reference;
use kquant::job::{Report, TextFile};
use kquant::model::Model;
use kquant::text::Chunks;

use super::{Args, means};
use crate::cli::Outcome;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;
use kquant::context::Unit;

/// What the result is scored against, and on what.
pub(super) struct Judge {
    source: Model,
    chunks: Chunks,
}

impl Judge {
    /// Reads the text, so that a bad one costs nothing.
    pub(super) fn new(args: &Args, text: &Path) -> anyhow::Result<Self> {
        let source = args.text_args.open(&args.model)?;
        let chunks = args.text_args.chunks(&source, &TextFile::read(text)?)?;
        Ok(Self { source, chunks })
    }

    /// Scores what was written against what it was made of.
    pub(super) fn verify(&self, args: &Args, report: &Report) -> anyhow::Result<evaluate::Report> {
        let Self { source, chunks } = self;
        let out = report.files.first().context("nothing was written")?;
        let mut result = Model::open_by(&out.path, None, args.text_args.reading.io())?;
        args.text_args.set_up(&mut result);
        let means = means(args);
        let cancel = cancel_on_signal()?;
        let total = evaluate::work(source, chunks) + evaluate::work(&result, chunks);
        let display = Display::new(total, Unit::Work, args.quiet);
        let run = context::Context { memory: means.memory, cancel, progress: &display };
        let reference = Reference::Model(source);
        let proof =
            means.run(|| evaluate::evaluate(&result, Some(&reference), chunks, None, &run, &mut |_| {}))?;
        display.finish();
        Ok(proof?)
    }
}

/// The mean KL divergence that was measured.
pub(super) fn divergence(proof: Option<&evaluate::Report>) -> Option<f64> {
    proof.and_then(|p| p.comparison.as_ref()).map(|c| c.kl.mean)
}

/// The exit code that `--max-kl` asks for.
pub(super) fn check_divergence(args: &Args, proof: Option<&evaluate::Report>) -> anyhow::Result<Outcome> {
    match (divergence(proof), args.max_kl) {
        // A divergence or limit that is no number is no pass either.
        (Some(kl), Some(limit)) if kl.partial_cmp(&limit).is_none_or(Ordering::is_gt) => {
            writeln!(io::stderr(), "check failed: mean KL divergence {kl:.6} is more than --max-kl {limit}")?;
            Ok(Outcome::CheckFailed)
        }
        _ => Ok(Outcome::Done),
    }
}
