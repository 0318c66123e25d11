//! A Hugging Face folder as the output of `kquant prune`.

use std::path::Path;

use kquant::context::{Context, Unit};
use kquant::convert::Converted;
use kquant::job;
use kquant::model::Model;

use super::Args;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// Returns true if `out` asks for a folder: a name that ends in `/`, or a folder that is there.
pub(super) fn is_asked(out: &Path) -> bool {
    out.as_os_str().to_string_lossy().ends_with(std::path::is_separator) || out.is_dir()
}

/// Checks that `model` can be written as a folder, before any text is run.
pub(super) fn check(args: &Args, model: &Model) -> anyhow::Result<()> {
    if is_asked(&args.out) {
        job::check_folder(model.opened(), model.converted(), kind(args))?;
    }
    Ok(())
}

/// Returns the type that is asked for.
fn kind(args: &Args) -> Option<&str> {
    args.kind.as_deref().filter(|kind| *kind != "COPY")
}

/// Writes the model, unless nothing is to be written, and returns its bytes.
pub(super) fn write(args: &Args, changed: &Converted) -> anyhow::Result<u64> {
    let job = job::FolderJob {
        model: &args.model,
        io: args.text_args.reading.io(),
        kind: kind(args),
        pre: args.text_args.pre.as_deref(),
        out: (!args.dry_run).then_some(&args.out),
    };
    let display = Display::new(0, Unit::Bytes, args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let bytes = args.means.run(|| job.run(changed, &run))?;
    display.finish();
    Ok(bytes?)
}
