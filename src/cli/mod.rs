//! The command line: one file per subcommand, each arguments -> job -> library call -> printing.
//!
//! Exit codes: 0 done, 1 a check failed, 2 wrong usage or unusable input.

mod assemble;
mod bytes;
mod calibrate;
mod calibration;
mod card;
mod changed;
mod clean;
mod compare;
mod completions;
mod distill;
mod evaluate;
mod folder;
mod generate;
mod hash;
mod hessians;
mod hub;
mod imatrix;
mod inspect;
mod ladder;
mod man;
mod merge;
mod notes;
mod overrides;
mod page;
mod perplexity;
mod prices;
mod printable;
mod progress;
mod prune;
mod quantize;
mod running;
mod sample;
mod shards;
mod split;
mod sweep;
mod table;
mod teach;
mod tokenize;
mod verify;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kquant_kernels::isa::{self, Isa};
use printable::{printable_json, printable_lines};

/// Shrinks language models for laptops and phones: a checkpoint in, one GGUF that stock llama.cpp runs out, with proof.
#[derive(Debug, Parser)]
#[command(name = "kquant", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Use this instruction set instead of the fastest that the machine has; the results are the same.
    #[arg(long, global = true, value_name = "NAME", value_parser = isa, help_heading = "Machine")]
    isa: Option<Isa>,
}

/// An instruction set that this machine has.
fn isa(name: &str) -> Result<Isa, String> {
    Isa::by_name(&name.to_lowercase()).ok_or_else(|| {
        let available: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        let what =
            if isa::NAMES.contains(&name) { "this machine lacks it" } else { "there is none of this name" };
        format!("{what}; it has {}", available.join(", "))
    })
}

#[derive(Debug, Subcommand)]
enum Command {
    Quantize(Box<quantize::Args>),
    Hash(hash::Args),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Split(split::Args),
    Merge(merge::Args),
    Assemble(assemble::Args),
    Card(card::Args),
    Perplexity(perplexity::Args),
    Compare(compare::Args),
    Evaluate(evaluate::Args),
    Calibrate(calibrate::Args),
    Imatrix(imatrix::Args),
    Prices(prices::Args),
    Sweep(Box<sweep::Args>),
    Ladder(Box<ladder::Args>),
    Prune(Box<prune::Args>),
    Teach(teach::Args),
    Distill(Box<distill::Args>),
    Generate(generate::Args),
    Sample(sample::Args),
    Tokenize(tokenize::Args),
    Clean(clean::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// How a command ended without an error.
enum Outcome {
    Done,
    CheckFailed,
}

/// Parses the arguments, runs the command, prints what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(isa) = cli.isa {
        isa.force();
    }
    let result = match cli.command {
        Command::Quantize(args) => quantize::run(*args),
        Command::Hash(args) => hash::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Split(args) => split::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Assemble(args) => assemble::run(&args),
        Command::Card(args) => card::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Imatrix(args) => imatrix::run(args),
        Command::Prices(args) => prices::run(&args),
        Command::Ladder(args) => ladder::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Teach(args) => teach::run(&args),
        Command::Distill(args) => distill::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Sample(args) => sample::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::CheckFailed) => ExitCode::from(1),
        // The reader of a pipe has had enough: not an error.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "error: {}", printable_lines(&format!("{e:#}")));
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

/// Writes `value` as indented JSON and a line feed.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(io::stdout().lock(), "{}", printable_json(&text))?;
    Ok(())
}
