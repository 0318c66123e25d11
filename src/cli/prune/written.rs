//! The model that is left: its writing, and what is told of it.

use kquant::convert::Converted;
use kquant::job::Fertility;
use kquant::model::Model;

use super::Args;
use crate::cli::changed::{Destination, bytes_of};

/// What `--json` prints.
#[derive(serde::Serialize)]
pub(super) struct Report<'a, R> {
    #[serde(flatten)]
    pub pruned: &'a R,
    pub bytes_before: u64,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Fertility>,
}

impl<'a, R> Report<'a, R> {
    /// Writes `changed`, what is left of `model`, as `kind` and returns the report of it.
    pub(super) fn of_written(
        args: &Args,
        model: &Model,
        (changed, kind): (Converted, &str),
        pruned: &'a R,
    ) -> anyhow::Result<Self> {
        let bytes = write(args, changed, kind)?;
        Ok(Self { pruned, bytes_before: bytes_of(model), bytes, held_out: None })
    }

    /// The line of the bytes before and after.
    pub(super) fn bytes_line(&self) -> String {
        let share = self.bytes as f64 / self.bytes_before.max(1) as f64;
        format!("bytes: {} of {} ({share:.3})", self.bytes, self.bytes_before)
    }
}

/// Writes the model, unless nothing is to be written, and returns its bytes.
fn write(args: &Args, changed: Converted, kind: &str) -> anyhow::Result<u64> {
    let target = Destination {
        model: &args.model,
        out: &args.out,
        asked: args.kind.as_deref(),
        kind,
        force: args.force,
        dry_run: args.dry_run,
        text_args: &args.text_args,
        means: &args.means,
    };
    target.write(changed)
}
