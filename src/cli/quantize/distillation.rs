//! `--distill`: the model trained by its teacher before it is quantized.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use anyhow::bail;
use kquant::context::Context;
use kquant::convert::Converted;
use kquant::distill::{Method, Trained};
use kquant::hash::bytes_sha256;
use kquant::job::{self, DistillRequest, TaughtBy, TextFile, TrainingLength};
use kquant::model::{Model, Products};

use super::{Args, means};
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// Likeliest tokens of the teacher that are told apart.
const TOP: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// Trains `student` over `text` for `tokens` tokens, by `--teacher` or by the model that it was pruned from; `None` with a note if it came
/// no closer.
pub(super) fn distilled(
    args: &Args,
    mut student: Model,
    text: &TextFile,
    tokens: u64,
) -> anyhow::Result<Option<Converted>> {
    let path = match (&args.teacher, args.prune.is_empty()) {
        (Some(teacher), _) => teacher,
        (None, false) => &args.model,
        (None, true) => bail!("--distill: give --teacher, the model to learn from"),
    };
    let mut teacher = args.text_args.open(path)?;
    if args.text_args.products.is_none() {
        student.compute_in(Products::Bf16);
        teacher.compute_in(Products::Bf16);
    }
    let chunks = args.text_args.chunks(&student, text)?;
    let sha256 = bytes_sha256(text.content.as_bytes());
    let request = DistillRequest {
        method: Method::Soap,
        trained: Trained::All,
        rate: None,
        batch: None,
        length: TrainingLength::Tokens(tokens),
        known: TOP,
        temperature: 1.0,
        seed: args.calibration.seed,
        taught: TaughtBy::Model { teacher: &teacher, chunks: &chunks, sha256: &sha256 },
        judges: None,
        checkpoints: None,
    };
    let display = Display::of_parts(args.quiet);
    let run = Context { memory: args.memory, cancel: cancel_on_signal()?, progress: &display };
    let trained = means(args).run(|| job::distill(&mut student, &request, &run))?;
    display.finish();
    let trained = trained?;
    let (before, after) = trained.report.before_and_after();
    let better = trained.report.is_better();
    if !args.quiet {
        let what = if better { "distilled" } else { "not distilled, as it came no closer" };
        writeln!(
            io::stderr(),
            "{what}: divergence on held-out text {after:.5}, before {before:.5} nats per token"
        )?;
    }
    Ok(better.then_some(trained.model))
}
