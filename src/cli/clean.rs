//! `kquant clean`.

use std::io::{self, Write};
use std::path::PathBuf;

use kquant::layerwise::journal;
use kquant_formats::partial::remove_left_overs;

use super::Outcome;
use super::printable::printable_path;

/// Remove what stopped runs have left of an output: unfinished files, and the journal that `quantize --resume` goes on from
///
/// The output itself stays, and so does what a living run is writing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kquant clean llama-1b.gguf")]
pub(super) struct Args {
    /// The outputs, as they were given to -o.
    #[arg(required = true)]
    out: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    for path in &args.out {
        let held = journal::holds(path);
        let (files, had_journal) = (remove_left_overs(path)?, journal::clean(path)?);
        let mut removed = Vec::new();
        if files > 0 {
            removed.push(format!("{files} unfinished files"));
        }
        removed.extend(held.filter(|_| had_journal).map(|held| format!("the journal, which held {held}")));
        let what = if removed.is_empty() {
            "nothing to remove".into()
        } else {
            format!("removed {}", removed.join(" and "))
        };
        writeln!(io::stdout(), "{}: {what}", printable_path(path))?;
    }
    Ok(Outcome::Done)
}
