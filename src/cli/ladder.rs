//! `kquant ladder`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kquant::arch::folder_name;
use kquant::context::{Context, Unit};
use kquant::evaluate::Scores;
use kquant::job::{Job, Outputs, Prepared, Report, Resources, Types, prepare};
use kquant::model_card::{CardEntry, Measured, model_card};
use kquant::outputs;
use kquant::recipe::{Allocation, Menu, Target};
use kquant_formats::gguf::split::prefix;
use kquant_formats::partial::PartialFile;
use serde_json::Value as Json;

use super::calibration::CalibrationArgs;
use super::card::CardArgs;
use super::overrides::OverrideArgs;
use super::prices::measured;
use super::printable::printable_path;
use super::progress::Display;
use super::quantize::{Judge, Printed};
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, bytes, folder, print_json, table};

/// Quantize a model to files of several sizes, with statistics and prices made once, and a model card
///
/// Each file is the one that `kquant quantize --size` makes, and has a manifest beside it. README.md lists them all, with what --verify
/// measured.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant ladder Llama-3.2-1B/ --sizes 500M,700M,1G --calibrate calibration.txt -o ladder/
  kquant ladder Qwen3-8B/ --sizes 3G,4.5G,6G --calibrate calibration.txt --verify wiki.test.raw --base-model Qwen/Qwen3-8B -o ladder/")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Sizes of the files, as 500M,1.5G (powers of 1024).
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', required = true, value_parser = rung_size)]
    sizes: Vec<(String, u64)>,
    /// Folder for NAME-SIZE.gguf, their manifests and README.md; made if it is not there.
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
    /// Start of the files' names; by default the model's.
    #[arg(long)]
    name: Option<String>,
    #[arg(long, value_name = "MENU", default_value = "all")]
    #[arg(help = "Types to choose from: all, phone, cpu, gpu, or a list such as Q4_0,Q8_0", long_help = format!("Types to choose from: a list such as Q4_0,Q8_0, or a menu. {}", Menu::help()))]
    menu: String,
    /// Score each file on this text: perplexity and KL divergence; repeatable, and then the worst text counts.
    #[arg(long, value_name = "TEXT")]
    verify: Vec<PathBuf>,
    /// Print JSON: for each file what `kquant quantize --json` prints.
    #[arg(long)]
    json: bool,
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    #[command(flatten, next_help_heading = "Card")]
    card: CardArgs,
    #[command(flatten, next_help_heading = "Types")]
    overrides: OverrideArgs,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten, next_help_heading = "Texts")]
    text_args: TextArgs,
    #[command(flatten, next_help_heading = "Running")]
    means: RunArgs,
}

/// Parses a size, and keeps how it was written.
fn rung_size(text: &str) -> Result<(String, u64), String> {
    Ok((text.to_owned(), bytes::parse(text)?))
}

/// One of the files.
struct Rung {
    size: u64,
    model: PathBuf,
    manifest: PathBuf,
}

/// A file that was made.
struct MadeRung {
    predicted: f64,
    report: Report,
    proof: Option<Scores>,
    /// What `kquant quantize --json` prints of it.
    json: Json,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (rungs, card) = (rungs(args), args.out.join("README.md"));
    let all: Vec<&Path> = rungs
        .iter()
        .flat_map(|rung| [rung.model.as_path(), &rung.manifest])
        .chain([card.as_path()])
        .collect();
    let mut inputs = outputs::model_files(&args.model);
    let files = [&args.calibration.statistics, &args.calibration.calibrate, &args.overrides.tensor_type_file];
    inputs.extend(files.into_iter().flatten().chain(&args.verify).cloned());
    outputs::check(&inputs, &all)?;
    let made = folder::made_for(&args.out, || {
        outputs::try_start(&all, args.force)?;
        let made = make(args, &rungs)?;
        write_card(args, &made, &card)?;
        Ok(made)
    })?;
    if args.json {
        print_json(&made.iter().map(|rung| &rung.json).collect::<Vec<_>>())?;
    } else if !args.means.quiet {
        print(&made)?;
        writeln!(io::stdout(), "{}", printable_path(&card))?;
    }
    Ok(Outcome::Done)
}

/// Returns the files to make, smallest first: a size that is too small shows before any work on others.
fn rungs(args: &Args) -> Vec<Rung> {
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.model));
    let rung = |(text, size): &(String, u64)| {
        let at = |end: &str| args.out.join(format!("{name}-{text}{end}"));
        Rung { size: *size, model: at(".gguf"), manifest: at(".manifest.json") }
    };
    let mut rungs: Vec<Rung> = args.sizes.iter().map(rung).collect();
    rungs.sort_by_key(|rung| rung.size);
    rungs
}

/// Returns the name of the model at `path`: that of the folder, published or not, or that of the file.
fn name_of(path: &Path) -> String {
    let name = match path.is_dir() {
        true => folder_name(path),
        false => {
            let name = prefix(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.strip_suffix(".safetensors").map_or(name.clone(), str::to_owned)
        }
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.is_empty() { "model".to_owned() } else { last.to_owned() }
}

/// Makes statistics and prices, and then all files.
fn make(args: &Args, rungs: &[Rung]) -> anyhow::Result<Vec<MadeRung>> {
    let judge = Judge::new((&args.model, &args.text_args), &args.verify)?;
    let (menu, overrides) = (Menu::parse(&args.menu)?, args.overrides.read()?);
    let method = args.calibration.method(true)?;
    let source = (args.model.as_path(), &args.text_args);
    let made = args.calibration.statistics(&method, true, source, &args.means)?;
    let types = Allocation::priced_types(&menu, &overrides);
    let prices = measured(source, &types, &method, &made, &args.means)?;
    let repaired = method.layers.is_some() && args.calibration.runs_a_text(true)?;
    let mut allocation = Allocation { target: Target::Size(0), menu, prices, overrides, repaired };
    let mut statistics = made.statistics;
    let mut all = Vec::new();
    for rung in rungs {
        allocation.target = Target::Size(rung.size);
        let prepared = prepare(Job {
            model: args.model.clone(),
            types: Types::Prices(Box::new(allocation.clone())),
            statistics,
            encoder: method.encoder,
            metadata: None,
            overrides: Vec::new(),
            keep_split: false,
            pre: args.text_args.pre.clone(),
        })?;
        all.push(make_one(args, rung, &prepared, judge.as_ref())?);
        statistics = prepared.into_statistics();
    }
    Ok(all)
}

/// Makes and scores one file.
fn make_one(
    args: &Args,
    rung: &Rung,
    prepared: &Prepared,
    judge: Option<&Judge>,
) -> anyhow::Result<MadeRung> {
    let manifest = Some(rung.manifest.clone());
    let outputs = Outputs { model: rung.model.clone(), manifest, report: None, force: args.force };
    prepared.check_room(&outputs)?;
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let resources = Resources { memory: args.means.memory, threads: args.means.threads };
    let calibrated = args.means.run(|| prepared.calibrate(run.memory, run.cancel, run.progress, None))??;
    let report = prepared.run(calibrated.as_ref(), &outputs, &resources, run.cancel, run.progress);
    display.finish();
    let report = report?;
    let scored = judge.map(|judge| judge.verify(&rung.model, &args.text_args, &args.means));
    let proof = scored.transpose()?;
    let view = prepared.view();
    let allocation = view.allocation.as_ref();
    let predicted = allocation.map_or(f64::NAN, |chosen| chosen.predicted);
    let json = serde_json::to_value(Printed { written: &report, allocation, proof: proof.as_ref() })?;
    Ok(MadeRung { predicted, report, proof, json })
}

/// Writes README.md.
fn write_card(args: &Args, made: &[MadeRung], path: &Path) -> anyhow::Result<()> {
    let mut entries = Vec::new();
    let display = Display::new(0, Unit::Bytes, args.means.quiet);
    for rung in made {
        for file in &rung.report.files {
            let measured = Measured::of(&rung.json);
            entries.push(CardEntry { measured, ..CardEntry::open(&file.path, None, &display)? });
        }
    }
    display.finish();
    let mut options = args.card.options();
    // A model in the hub's cache is known by its published name.
    let published = folder_name(&args.model);
    if options.base_models.is_empty() && published.contains('/') {
        options.base_models.push(published);
    }
    let mut file = PartialFile::create(path, 0, args.force)?;
    file.fill(model_card(&entries, &options).as_bytes())?;
    Ok(file.finish()?)
}

/// A line for each file.
fn print(made: &[MadeRung]) -> io::Result<()> {
    let head = ["file", "bytes", "bits per weight", "KL predicted", "KL measured"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for rung in made {
        let kl = rung.proof.as_ref().and_then(Scores::worst).map(|(_, kl)| kl);
        for file in &rung.report.files {
            rows.push(vec![
                printable_path(&file.path),
                file.bytes.to_string(),
                format!("{:.3}", rung.report.bits_per_weight),
                format!("{:.6}", rung.predicted),
                kl.map_or_else(String::new, |kl| format!("{kl:.6}")),
            ]);
        }
    }
    table::write(&mut io::stdout().lock(), &rows, &[1, 2, 3, 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_like_the_model() {
        let root = tempfile::tempdir().unwrap();
        let snapshot = "models--lab--Fir-1.5B/snapshots/0123456789abcdef0123456789abcdef01234567";
        for folder in [snapshot, "Fir-1.5B"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            assert_eq!(name_of(&root.path().join(folder)), "Fir-1.5B", "{folder}");
        }
        for file in ["a/m.v2-00001-of-00002.gguf", "a/m.v2.gguf", "a/m.v2.safetensors"] {
            assert_eq!(name_of(Path::new(file)), "m.v2", "{file}");
        }
    }
}
