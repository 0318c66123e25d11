//! Encoding with feedback, and what is told of it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kquant::job::{Prepared, QuantizeError};
use kquant::layerwise::{Calibrated, CalibratedError, Calibration, CalibrationReport, Journal, journal};

use super::{Args, means};
use crate::cli::printable::{printable, printable_path};
use crate::cli::progress::Display;
use crate::cli::table;

/// Fails if a stopped run has left a journal beside the output and this run is not to go on from it.
pub(super) fn check_journal(args: &Args) -> anyhow::Result<()> {
    match &args.out {
        Some(out) if !args.resume => Ok(Journal::check_absent(out)?),
        _ => Ok(()),
    }
}

/// Opens the journal of the run, if the job is one that takes long.
pub(super) fn journal(args: &Args, prepared: &Prepared, out: &Path) -> anyhow::Result<Option<Journal>> {
    if prepared.calibration().is_none() {
        return Ok(None);
    }
    Ok(Some(Journal::open(out, &prepared.run_sha256()?, args.resume)?))
}

/// Ends the journal of a run that came to `error`, or to its end: removes it if nothing can go on from it, else tells how.
pub(super) fn end_journal(
    journal: Option<Journal>,
    out: &Path,
    error: Option<&anyhow::Error>,
    cancel: &AtomicBool,
) -> anyhow::Result<()> {
    let Some(journal) = journal else { return Ok(()) };
    let is_of_use = error.is_some_and(|error| cancel.load(Ordering::Relaxed) || may_pass(error));
    match journal::holds(out).filter(|_| is_of_use && journal.holds_something()) {
        Some(holds) => {
            let (folder, out) = (printable_path(&journal::folder_of(out)), printable_path(out));
            writeln!(
                io::stderr(),
                "note: {folder} keeps {holds}: the same command with --resume goes on from there, `kquant clean {out}` removes it"
            )?;
            Ok(())
        }
        None => Ok(journal.remove()?),
    }
}

/// Returns false for errors of the model or of its numbers, which would come again.
fn may_pass(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(QuantizeError::Calibrated { source, .. }) => matches!(**source, CalibratedError::File(_)),
        _ => true,
    }
}

/// Encodes with feedback, if the job says so, and tells what came of it.
pub(super) fn calibrate(
    args: &Args,
    prepared: &Prepared,
    cancel: &AtomicBool,
    journal: Option<&Journal>,
) -> anyhow::Result<Option<Calibrated>> {
    let Some(calibration) = prepared.calibration() else { return Ok(None) };
    if !args.quiet {
        warn(calibration)?;
    }
    let display = Display::of_parts(args.quiet);
    let calibrated = means(args).run(|| prepared.calibrate(args.memory, cancel, &display, journal))?;
    display.finish();
    let calibrated = calibrated?;
    if let Some(fault) = journal.and_then(Journal::fault) {
        writeln!(
            io::stderr(),
            "warning: no journal was kept, so that the run could not be resumed: {}",
            printable(&fault)
        )?;
    }
    if let Some(calibrated) = &calibrated {
        for note in calibrated.report.notes.iter().filter(|_| !args.quiet) {
            writeln!(io::stderr(), "note: {}", printable(note))?;
        }
        if !args.quiet && !args.json {
            print(&calibrated.report)?;
        }
    }
    Ok(calibrated)
}

/// Tokens per column below which feedback fits noise.
const FEW: f64 = 4.0;

/// Warns of a text that is short for the model, before the work.
fn warn(calibration: &Calibration) -> io::Result<()> {
    let (columns, tokens) = (calibration.model.widest_input(), calibration.tokens());
    let ratio = tokens as f64 / columns.max(1) as f64;
    if ratio < FEW {
        writeln!(
            io::stderr(),
            "warning: {tokens} tokens are {ratio:.1} for each of up to {columns} columns; with fewer than {FEW} feedback \
             fits noise. Give at least {} tokens of text",
            columns * FEW as usize
        )?;
    }
    Ok(())
}

/// A line for each tensor, and totals.
fn print(report: &CalibrationReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let head = ["tensor", "type", "tokens/column", "correction", "ggml", "search", "written", "/ ggml"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for t in &report.tensors {
        rows.push(vec![
            t.name.clone(),
            t.kind.clone(),
            format!("{:.0}", t.tokens_per_column),
            format!("{:.2}", t.correction),
            format!("{:.4e}", t.ggml),
            format!("{:.4e}", t.search),
            format!("{:.4e}", t.written),
            format!("{:.3}", t.written / t.ggml),
        ]);
    }
    table::write(&mut out, &rows, &[2, 3, 4, 5, 6, 7])?;
    for (name, step) in report.steps.named() {
        let rate = step.operations / step.seconds.max(1e-9) / 1e9;
        writeln!(out, "{name:<8} {:8.1} s {rate:8.1} GFLOP/s", step.seconds)?;
    }
    if report.pooled() > 0 {
        writeln!(
            out,
            "{} of {} matrices met few tokens and have a Hessian that is in part, or all, their layer's",
            report.pooled(),
            report.tensors.len()
        )?;
    }
    let weights: u64 = report.tensors.iter().map(|t| t.rows * t.columns as u64).sum();
    writeln!(
        out,
        "error on held-out text, relative to ggml's encoder with this importance: search {:.3}, written {:.3} \
         ({} tensors, {} tokens, {} of them held out; {:.2} M weights/s rounded)",
        report.ratio(|t| t.search),
        report.ratio(|t| t.written),
        report.tensors.len(),
        report.tokens,
        report.held_out_tokens,
        weights as f64 / report.steps.rounding.seconds.max(1e-9) / 1e6
    )
}
