//! Folders as the outputs of commands.

use std::fs;
use std::path::Path;

use kquant::context::{Context, Unit};
use kquant::convert::Converted;
use kquant::job;
use kquant::model::Model;

use super::changed::Destination;
use super::progress::Display;
use super::running::cancel_on_signal;

/// Returns true if `out` asks for a folder: a name that ends in `/`, or a folder that is there.
pub(super) fn is_asked(out: &Path) -> bool {
    out.as_os_str().to_string_lossy().ends_with(std::path::is_separator) || out.is_dir()
}

/// Does `work`, whose outputs go to the folder `out`, which is made if it is not there. A folder that was made and stayed empty goes away.
pub(super) fn made_for<T>(out: &Path, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    // Where it cannot be made, the first output says why.
    let made = fs::create_dir(out).is_ok();
    let result = work();
    if made && result.is_err() {
        // Files that were finished before the failure stay, and the folder with them.
        let _ = fs::remove_dir(out);
    }
    result
}

/// Checks that `model` can be written as a folder with weights of the type `kind`, before any text is run, if `out` asks for one.
pub(super) fn check(out: &Path, model: &Model, kind: Option<&str>) -> anyhow::Result<()> {
    if is_asked(out) {
        job::check_folder(model.opened(), model.converted(), named(kind))?;
    }
    Ok(())
}

/// Returns the type that is asked for by name.
fn named(kind: Option<&str>) -> Option<&str> {
    kind.filter(|kind| *kind != "COPY")
}

/// Writes the model, unless nothing is to be written, and returns its bytes.
pub(super) fn write(target: &Destination, changed: &Converted) -> anyhow::Result<u64> {
    let job = job::FolderJob {
        model: target.model,
        kind: named(target.asked),
        pre: target.text_args.pre.as_deref(),
        out: (!target.dry_run).then_some(target.out),
    };
    let display = Display::new(0, Unit::Bytes, target.means.quiet);
    let run = Context { memory: target.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let bytes = target.means.run(|| job.run(changed, &run))?;
    display.finish();
    Ok(bytes?)
}
