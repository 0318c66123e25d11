//! `kquant completions`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Outcome};

/// Print a script that completes kquant's commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant completions bash > ~/.local/share/bash-completion/completions/kquant
  kquant completions zsh > ~/.zfunc/_kquant                # with fpath+=~/.zfunc before compinit
  kquant completions fish > ~/.config/fish/completions/kquant.fish
  kquant completions powershell >> $PROFILE")]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kquant", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Outcome::Done)
}
