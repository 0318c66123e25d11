//! How good the result shall be: levels to choose from.

use anyhow::bail;
use clap::ValueEnum;

use super::Args;

/// How much is done for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Quality {
    /// Mean squares of the inputs alone.
    Fast,
    /// Feedback over columns.
    Good,
    /// Feedback over columns and rows.
    Best,
}

/// Over what errors are fed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sides {
    /// Columns of a row.
    Columns,
    /// Columns, and rows.
    Both,
}

/// The help text of `--quality`.
pub(super) const HELP: &str = "How much is done with the calibration text; good by default. fast: scales weighted by the inputs' mean squares \
    (one forward pass); good: errors made up for by later columns and layers (about 3.5 times as long); best: by other rows, too, and the \
    output tensor as well (about six times)";

impl Args {
    /// The name of the encoder that `--quality` asks for.
    pub(super) fn quality_encoder(&self) -> Option<&'static str> {
        self.quality.map(|quality| if quality == Quality::Fast { "auto" } else { "gptq" })
    }

    /// Whether errors are fed back over rows as well.
    ///
    /// # Errors
    /// When the arguments contradict each other.
    pub(super) fn both_sides(&self) -> anyhow::Result<bool> {
        match (self.feedback, self.quality) {
            (Some(_), Some(Quality::Fast)) => bail!("--quality fast has no feedback: leave out --feedback"),
            (Some(Sides::Columns), Some(Quality::Best)) => {
                bail!(
                    "--quality best feeds back over both sides: leave out --feedback, or choose --quality good"
                )
            }
            (Some(sides), _) => Ok(sides == Sides::Both),
            (None, quality) => Ok(quality == Some(Quality::Best)),
        }
    }
}
