//! `--part`: a share of the tensors, for one of several machines.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use kquant::hash::Digest;
use kquant::job::{PreparedPart, QuantizeError, Report, Resources, prepare_part};
use kquant::parts::PartState;
use kquant::text::Part;
use serde::Serialize;

use super::calibration::calibrate;
use super::{Args, job, print};
use crate::cli::printable::printable_path;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;
use crate::cli::{Outcome, folder, print_json};

/// What `--json` prints.
#[derive(Serialize)]
struct PartOutcome<'a> {
    /// True if the part was there before, so that nothing was done.
    already_there: bool,
    /// The part's file.
    files: &'a [Digest],
}

pub(super) fn run(args: &Args, part: Part) -> anyhow::Result<Outcome> {
    let (no, count) = (u16::try_from(part.number() - 1), u16::try_from(part.count()));
    let (no, count) = no.ok().zip(count.ok()).context("--part: at most 65535 parts are possible")?;
    // Before a text is run, or written by the model.
    if args.calibration.runs_a_text(args.needs_prices())? {
        return Err(QuantizeError::PartOfSequence.into());
    }
    let prepared = prepare_part(job(args)?, no, count)?;
    if args.dry_run {
        let view = prepared.prepared.view();
        if args.json {
            print_json(&view)?
        } else {
            print::plan(&view)?
        }
        return Ok(Outcome::Done);
    }
    let out = args.out.as_deref().context("no folder for the parts: give -o FOLDER")?;
    let state = if args.force { PartState::Absent } else { prepared.state(out)? };
    match state {
        PartState::Complete(digest) => tell_of(args, &prepared, out, *digest)?,
        PartState::Damaged if !args.quiet => {
            let path = prepared.path(out);
            let what = "is not what was written, and is made again";
            writeln!(io::stderr(), "warning: {}: {what}", printable_path(&path))?;
            make(args, &prepared, out)?;
        }
        PartState::Damaged | PartState::Absent => make(args, &prepared, out)?,
    }
    Ok(Outcome::Done)
}

fn make(args: &Args, part: &PreparedPart, out: &Path) -> anyhow::Result<()> {
    let report = folder::made_for(out, || encode(args, part, out))?;
    if args.json {
        return print_json(&PartOutcome { already_there: false, files: &report.files });
    }
    if !args.quiet {
        print::warnings(&report.warnings)?;
        print::report(&report)?;
    }
    Ok(())
}

fn encode(args: &Args, part: &PreparedPart, out: &Path) -> anyhow::Result<Report> {
    let cancel = cancel_on_signal()?;
    let outputs = part.outputs(out);
    part.prepared.check_outputs(&outputs)?;
    part.prepared.check_room(&outputs)?;
    let calibrated = calibrate(args, &part.prepared, cancel, None)?;
    let display = Display::of_parts(args.quiet);
    let resources = Resources { memory: args.memory, threads: args.threads };
    let report = part.run(calibrated.as_ref(), out, &resources, cancel, &display);
    display.finish();
    Ok(report?)
}

/// Tells that there is nothing to do.
fn tell_of(args: &Args, part: &PreparedPart, out: &Path, digest: Digest) -> anyhow::Result<()> {
    let path = part.path(out);
    if args.json {
        let files = [Digest { path, ..digest }];
        return print_json(&PartOutcome { already_there: true, files: &files });
    }
    if !args.quiet {
        writeln!(io::stdout(), "{}: is there already, as it should be", printable_path(&path))?;
    }
    Ok(())
}
