//! `kquant man`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use kquant_formats::partial::PartialFile;

use super::{Cli, Outcome};

/// Write the manual: a page for kquant and one for each command
///
/// Without --out the page of kquant, or of the command named, goes to standard output.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant man -o ~/.local/share/man/man1
  kquant man quantize | man -l -")]
pub(super) struct Args {
    /// The command whose page is printed, such as `quantize` or `imatrix merge`.
    #[arg(conflicts_with = "out")]
    command: Vec<String>,
    /// Folder for all pages; made if it is not there.
    #[arg(long, short, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Replace existing pages.
    #[arg(long, requires = "out")]
    force: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut program = Cli::command();
    // Names and usage of subcommands are complete only then.
    program.build();
    match &args.out {
        Some(folder) => write_all(&program, folder, args.force)?,
        None => io::stdout().lock().write_all(&page(named(&program, &args.command)?)?)?,
    }
    Ok(Outcome::Done)
}

/// Returns the subcommand that `names` leads to.
fn named<'a>(program: &'a Command, names: &[String]) -> anyhow::Result<&'a Command> {
    names.iter().try_fold(program, |command, name| {
        command.find_subcommand(name).with_context(|| format!("there is no command `{name}`"))
    })
}

/// Writes the pages of `program` and all its subcommands, none of which appears before all are made.
fn write_all(program: &Command, folder: &Path, force: bool) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut files = Vec::new();
    for command in with_subcommands(program) {
        let name = format!("{}.1", file_name(command));
        let mut file = PartialFile::create(&folder.join(name), 0, force)?;
        file.fill(&page(command)?)?;
        files.push(file);
    }
    Ok(PartialFile::finish_all(files)?)
}

/// Returns `command` and everything below it, without the `help` that lists the others.
fn with_subcommands(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|c| c.get_name() != "help").flat_map(with_subcommands);
    std::iter::once(command).chain(below).collect()
}

/// Returns the name of a page, such as `kquant-imatrix-merge`.
fn file_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Returns the page of `command` in roff.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("kquant ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).title(file_name(command).to_uppercase()).source(source).render(&mut page)?;
    Ok(page)
}
