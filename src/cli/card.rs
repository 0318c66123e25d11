//! `kquant card`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use kquant::context::Unit;
use kquant::model_card::{CardEntry, CardOptions, model_card};
use kquant::outputs;
use kquant_formats::partial::PartialFile;

use super::Outcome;
use super::printable::printable_lines;
use super::progress::Display;

/// Write the model card of quantized files: README.md as Hugging Face reads it
///
/// The card has the front matter, a table of the files with what was measured, commands for llama.cpp and ollama, and hashes. License,
/// languages and tags are those that the first file states.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant card qwen3-8b-*.gguf --base-model Qwen/Qwen3-8B --quantized-by me -o README.md
  kquant perplexity q4.gguf --base Qwen3-8B/ --text wiki.test.raw --json q4.json
  kquant card q4.gguf q3.gguf --result q4.gguf=q4.json --base-model Qwen/Qwen3-8B -o README.md")]
pub(super) struct Args {
    /// GGUF files; of a split one the first.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The card to write; by default it goes to standard output.
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// What was measured of a file: JSON of `kquant perplexity --base` or `kquant quantize --verify --json`; repeatable.
    #[arg(long, value_name = "GGUF=JSON", value_parser = pair)]
    result: Vec<(PathBuf, PathBuf)>,
    #[command(flatten)]
    card: CardArgs,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
}

/// What a card says that files do not.
#[derive(Debug, clap::Args)]
pub(super) struct CardArgs {
    /// The model on Hugging Face that was quantized; repeatable; by default what the first file says, if it does.
    #[arg(long, value_name = "OWNER/NAME")]
    base_model: Vec<String>,
    /// Who quantized the model.
    #[arg(long, value_name = "NAME")]
    quantized_by: Option<String>,
    /// License, as Hugging Face names it; by default what the first file says.
    #[arg(long)]
    license: Option<String>,
    /// The repository on Hugging Face where files will be.
    #[arg(long, value_name = "OWNER/NAME")]
    repository: Option<String>,
}

impl CardArgs {
    /// The arguments as the library takes them.
    pub(super) fn options(&self) -> CardOptions {
        CardOptions {
            base_models: self.base_model.clone(),
            quantized_by: self.quantized_by.clone(),
            license: self.license.clone(),
            repository: self.repository.clone(),
        }
    }
}

/// Parses `GGUF=JSON`.
fn pair(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (file, result) = text.split_once('=').ok_or("write GGUF=JSON")?;
    Ok((file.into(), result.into()))
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some((file, _)) = args.result.iter().find(|(file, _)| !args.files.contains(file)) {
        bail!("--result {}: is none of the files of the card", file.display());
    }
    let inputs: Vec<PathBuf> = args.files.iter().flat_map(|file| outputs::model_files(file)).collect();
    let results = args.result.iter().map(|(_, json)| json.clone());
    let out: Vec<&Path> = args.out.iter().map(PathBuf::as_path).collect();
    outputs::check(&inputs.into_iter().chain(results).collect::<Vec<_>>(), &out)?;
    outputs::try_start(&out, args.force)?;
    let display = Display::new(0, Unit::Bytes, args.quiet);
    let open = |file: &PathBuf| {
        let result = args.result.iter().find(|(of, _)| of == file);
        CardEntry::open(file, result.map(|(_, json)| json.as_path()), &display)
    };
    let entries = args.files.iter().map(open).collect::<Result<Vec<_>, _>>();
    display.finish();
    let entries = entries?;
    let card = model_card(&entries, &args.card.options());
    if !card.contains("\nbase_model:\n") {
        writeln!(
            io::stderr(),
            "note: no file says which model was quantized: give --base-model OWNER/NAME, by which Hugging Face links the two"
        )?;
    }
    match &args.out {
        Some(path) => {
            let mut file = PartialFile::create(path, 0, args.force)?;
            file.fill(card.as_bytes())?;
            file.finish()?;
        }
        None => write!(io::stdout().lock(), "{}", printable_lines(&card))?,
    }
    Ok(Outcome::Done)
}
