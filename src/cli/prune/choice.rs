//! The run over the text by which it is chosen what is cut.

use kquant::context::Context;

use super::Args;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// Runs `choose` with the means that the user gave, and tells of its progress.
pub(super) fn choose<T: Send, E>(
    args: &Args,
    choose: impl FnOnce(&Context) -> Result<T, E> + Send,
) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let chosen = args.means.run(|| choose(&run))?;
    display.finish();
    Ok(chosen?)
}
