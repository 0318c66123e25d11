//! `--html`: the page of what is left.

use std::path::Path;

use kquant::context::Context;
use kquant::job::TextFile;
use kquant::model::Model;
use kquant_formats::partial::PartialFile;

use super::Args;
use crate::cli::page;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// Writes the page of the model that was pruned of `source` to `path`.
pub(super) fn write(args: &Args, path: &Path, source: &Model) -> anyhow::Result<()> {
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let report = args.means.run(|| -> anyhow::Result<_> {
        let pre = args.text_args.pre.as_deref();
        let mut report = page::of_files(Some(&args.model), &args.out, pre, &run)?;
        if let Some(text) = args.held_out.as_ref().or(args.text.first()) {
            let pruned = args.text_args.open(&args.out)?;
            let chunks = args.text_args.chunks(&pruned, &TextFile::read(text)?)?.spread(page::CHUNKS);
            page::add_text(&mut report, (source, &pruned), (text, &chunks), &run)?;
        }
        Ok(report)
    })?;
    display.finish();
    PartialFile::finish_all(vec![page::of_report(path, &report?, Vec::new(), args.force)?])?;
    Ok(())
}
