//! `--html`: the page of what was made.

use std::path::Path;

use kquant::context::Context;
use kquant::evaluate::Scores;
use kquant_formats::partial::PartialFile;

use super::{Args, Judge, means};
use crate::cli::page;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// Writes the page of the file `out`, made of `original`, to `path`, and returns what `judge` measured on its way.
pub(super) fn write(
    args: &Args,
    path: &Path,
    (original, out): (&Path, &Path),
    judge: Option<&Judge>,
) -> anyhow::Result<Option<Scores>> {
    let means = means(args);
    let display = Display::of_parts(args.quiet);
    let run = Context { memory: args.memory, cancel: cancel_on_signal()?, progress: &display };
    let pre = args.text_args.pre.as_deref();
    let mut report = means.run(|| page::of_files(Some(original), out, pre, &run))??;
    display.finish();
    let mut proof = None;
    if let Some(judge) = judge {
        let (scores, found, samples) = judge.look(out, &args.text_args, &means)?;
        (report.texts, report.samples) = (found, samples);
        proof = Some(scores);
    }
    PartialFile::finish_all(vec![page::of_report(path, &report, Vec::new(), args.force)?])?;
    Ok(proof)
}
