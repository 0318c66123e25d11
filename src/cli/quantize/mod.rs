//! `kquant quantize`.

mod calibration;
mod distillation;
mod look;
mod part;
mod print;
mod proof;
mod pruning;
mod types;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use kquant::evaluate::Scores;
use kquant::job::{Job, Outputs, Prepared, Report, Resources, prepare};
use kquant::layerwise::Estimate;
use kquant::outputs;
use kquant::plan::{AllocationView, KeyOverride, PlanView};
use kquant::recipe::Menu;
use kquant::text::Part;

use super::calibration::CalibrationArgs;
use super::overrides::OverrideArgs;
use super::printable::printable_lines;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, bytes, folder, print_json};
use calibration::{calibrate, check_journal, end_journal, journal};
pub(super) use proof::Judge;
use proof::{check_divergence, divergence};
use pruning::PruneStep;

const EXAMPLES: &str = "\
Examples:
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q4_K_M
  kquant quantize model-f16.gguf -o model.gguf --type Q3_K_S --imatrix imatrix.gguf
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_S --calibrate calibration.txt
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_S --quality best
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_S --calibrate calibration.txt --verify wiki.test.raw --max-kl 0.05 --html report.html
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --size 500M --calibrate calibration.txt --prune ffn=25% --prune vocab=65536
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --size 500M --calibrate calibration.txt --prune ffn=25% --distill 2M
  kquant quantize Llama-3.1-70B/ -o parts/ --type Q4_K_M --part 3/8
  kquant quantize Llama-3.2-1B/ --type Q4_K_M --dry-run
  kquant quantize model/ -o out.gguf --type Q4_K_M --tensor-type 'ffn_down=Q6_K' --output-tensor-type Q8_0";

/// Quantize a checkpoint or a GGUF to one GGUF
///
/// Nothing is half-written: the output appears under its name when it is complete. The bytes do not depend on threads or memory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF (any file of a split one).
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// The GGUF to write; with --part the folder of the parts.
    #[arg(short, long, required_unless_present_any = ["dry_run", "out_dir"])]
    out: Option<PathBuf>,
    /// Write into this folder, which is made if it is not there, under the name that GGUF's rule gives: Llama-3.2-1B-Instruct-Q4_K_M.gguf.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "part"])]
    out_dir: Option<PathBuf>,
    /// File type, as llama-quantize names it: Q4_K_M, Q3_K_S, IQ4_XS, Q8_0, BF16, COPY ...
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten, next_help_heading = "Size")]
    size: SizeArgs,
    /// First leave out what the text of --calibrate does not need, as `kquant prune` does: vocab=N, vocab-kl=NATS, ffn=WIDTH, heads=N, experts=N, layers=N; repeatable,
    /// in the order given. Results are judged against the whole model. The pruned model lies in TMPDIR meanwhile.
    #[arg(long, value_name = "WHAT=HOW MUCH", help_heading = "Size", conflicts_with_all = ["statistics", "prices", "manifest", "metadata", "keep_split"])]
    prune: Vec<PruneStep>,
    /// Then train it for so many tokens (500k, 2M) of the text of --calibrate to predict what --teacher does, as `kquant distill` does.
    #[arg(long, value_name = "TOKENS", value_parser = super::distill::count, help_heading = "Size", conflicts_with_all = ["statistics", "prices", "manifest", "metadata", "keep_split"])]
    distill: Option<u64>,
    /// The model to learn from, and to be judged against; by default MODEL as it is before --prune.
    #[arg(long, value_name = "MODEL", value_parser = crate::cli::hub::model, help_heading = "Size", requires = "distill")]
    teacher: Option<PathBuf>,
    #[command(flatten)]
    calibration: CalibrationArgs,
    /// Write what calibration did to each tensor, as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Calibration")]
    report: Option<PathBuf>,

    /// One type for every tensor, without the mixture.
    #[arg(long, help_heading = "Types")]
    pure: bool,
    #[command(flatten, next_help_heading = "Types")]
    overrides: OverrideArgs,

    /// Authorship as llama.cpp's converter takes it: JSON of `general.*` keys, before model card and names.
    #[arg(long, value_name = "FILE.json", help_heading = "Output")]
    metadata: Option<PathBuf>,
    /// Set metadata; TYPE is int, float, bool or str; a key that is there keeps its type; repeatable.
    #[arg(long, value_name = "KEY=TYPE:VALUE", help_heading = "Output")]
    override_kv: Vec<KeyOverride>,
    /// Write as many files as the input has, OUT-00001-of-0000N.gguf and so on; OUT may be given as one of these names.
    #[arg(long, help_heading = "Output")]
    keep_split: bool,
    /// Encode only part I of N of the tensors, into the folder OUT; `kquant assemble` makes one file of all parts.
    ///
    /// Parts may be made on any machines, in any order. One that is there already is left as it is, and one that is damaged is made again.
    /// Feedback needs --statistics, types by size need --prices: both files are the same for all parts.
    #[arg(long, value_name = "I/N", help_heading = "Output", conflicts_with_all = ["calibrate", "prune", "distill", "keep_split", "resume", "manifest", "report", "verify", "html"])]
    part: Option<Part>,
    /// Replace an existing output.
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Go on from what a stopped run of the same command has finished, to the same bytes.
    ///
    /// Runs with feedback keep a journal in OUT.kquant-journal/: after each layer the tensors so far, and what the layers after it need. It costs at most 3 % of the time
    /// and, on the disk, the output's size and twice the hidden states of the text. It is removed at the end.
    #[arg(long, help_heading = "Running")]
    resume: bool,
    /// Write hashes of sources, tensors and files, options and plan as JSON.
    #[arg(long, value_name = "M", help_heading = "Output")]
    manifest: Option<PathBuf>,

    /// Afterwards score result and source on this text: perplexity and KL divergence; repeatable, and then the worst text is named.
    #[arg(long, value_name = "TEXT", help_heading = "Proof")]
    verify: Vec<PathBuf>,
    /// Exit with code 1 if the mean KL divergence is more than this on any text; the output is kept.
    #[arg(long, value_name = "X", requires = "verify", help_heading = "Proof")]
    max_kl: Option<f64>,
    #[command(flatten, next_help_heading = "Texts")]
    text_args: TextArgs,

    /// Write a page for a browser: hashes, types by layer and role, errors by tensor and, with --verify, what was found on the text.
    #[arg(long, value_name = "FILE", help_heading = "Proof", conflicts_with = "dry_run")]
    html: Option<PathBuf>,

    /// Show what would be written, and stop. With a text for feedback, a few seconds of its work are timed, and the time, memory and disk that
    /// the run will take are told.
    #[arg(long, help_heading = "Running")]
    dry_run: bool,
    /// Print JSON: the plan with --dry-run, else what was written.
    #[arg(long, help_heading = "Running")]
    json: bool,
    /// No progress and no summary.
    #[arg(long, short, help_heading = "Running")]
    quiet: bool,
    /// Threads; by default one per core, at most 16 per core.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help_heading = "Running")]
    threads: usize,
    /// Buffers in flight, whatever the tensors' sizes.
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = bytes::parse, help_heading = "Running")]
    memory: u64,
}

/// What the file is to be instead of a file type.
#[derive(Debug, clap::Args)]
pub(super) struct SizeArgs {
    /// Bytes of the file, as 200M or 1.5G (powers of 1024): types are chosen by what each tensor costs, so that the file loses least
    #[arg(long, value_name = "BYTES", value_parser = bytes::parse, conflicts_with_all = ["kind", "bpw", "predicted_kl", "pure"])]
    size: Option<u64>,
    /// The same by bits per weight of the tensors' data.
    #[arg(long, value_name = "BITS", conflicts_with_all = ["kind", "predicted_kl", "pure"])]
    bpw: Option<f64>,
    /// The smallest file whose predicted KL divergence is at most X nats per token.
    #[arg(long, value_name = "X", conflicts_with_all = ["kind", "pure"])]
    predicted_kl: Option<f64>,
    #[arg(
        long,
        value_name = "MENU",
        default_value = "all",
        help = "Types to choose from: all, phone, cpu, gpu, or a list such as Q4_0,Q8_0"
    )]
    #[arg(long_help = format!("Types to choose from: a list such as Q4_0,Q8_0, or a menu. {}", Menu::help()))]
    menu: String,
    /// What tensors cost, of `kquant prices`, instead of measuring it now.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

pub(super) fn run(mut args: Args) -> anyhow::Result<Outcome> {
    if let Some(part) = args.part {
        return part::run(&args, part);
    }
    // Checked before the work, so that a bad text or path costs nothing.
    if !args.dry_run {
        check_outputs(&args)?;
    }
    let original = args.teacher.as_ref().unwrap_or(&args.model).clone();
    let judge = Judge::new((&original, &args.text_args), &args.verify)?;
    let smaller = pruning::smaller(&args)?;
    if let Some(smaller) = &smaller {
        args.model.clone_from(&smaller.path);
    }
    let prepared = prepare(job(&args)?)?;
    let view = prepared.view();
    if let Some(folder) = &args.out_dir {
        args.out = Some(folder.join(&prepared.plan.file_name));
    }
    if args.dry_run {
        return show(&args, &prepared);
    }
    if !args.quiet {
        print::warn(&view)?;
    }
    let report = match &args.out_dir {
        Some(dir) => folder::made_for(dir, || check_outputs(&args).and_then(|()| execute(&args, &prepared)))?,
        None => execute(&args, &prepared)?,
    };
    if !args.quiet {
        print::warnings(&report.warnings)?;
    }
    let first = report.files.first().context("nothing was written")?;
    let proof = match &args.html {
        Some(path) => look::write(&args, path, (&original, &first.path), judge.as_ref())?,
        None => judge.map(|judge| judge.verify(&first.path, &args.text_args, &means(&args))).transpose()?,
    };
    if args.json {
        let allocation = view.allocation.as_ref();
        print_json(&Printed { written: &report, allocation, proof: proof.as_ref() })?;
    } else if !args.quiet {
        print::report(&report)?;
        let mut out = io::stdout();
        view.allocation.as_ref().map_or(Ok(()), |chosen| print::allocation(&mut out, chosen))?;
        if let Some(proof) = &proof {
            write!(out, "{}", printable_lines(&proof.text()))?;
        }
        if let (Some(chosen), Some(kl)) = (&view.allocation, divergence(proof.as_ref())) {
            print::predicted(&mut out, chosen, kl)?;
        }
    }
    check_divergence(&args, proof.as_ref())
}

/// Shows the plan, and what a run with a text will take.
fn show(args: &Args, prepared: &Prepared) -> anyhow::Result<Outcome> {
    let view = prepared.view();
    let cancel = cancel_on_signal()?;
    if args.json {
        let expected = means(args).run(|| prepared.estimate(args.memory, cancel))??;
        print_json(&Planned { plan: &view, expected })?;
        return Ok(Outcome::Done);
    }
    print::plan(&view)?;
    print::named(args.out.as_deref().filter(|_| args.out_dir.is_some()))?;
    if let Some(expected) = means(args).run(|| prepared.estimate(args.memory, cancel))?? {
        print::expected(&expected)?;
    }
    Ok(Outcome::Done)
}

/// What `--json` prints with `--dry-run`.
#[derive(serde::Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    plan: &'a PlanView<'a>,
    /// What encoding with feedback from a text will take on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Estimate>,
}

/// What `--json` prints after a run.
#[derive(serde::Serialize)]
pub(super) struct Printed<'a> {
    #[serde(flatten)]
    pub written: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<&'a AllocationView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<&'a Scores>,
}

/// Checks all but the names of a split output, which its plan tells.
fn check_outputs(args: &Args) -> anyhow::Result<()> {
    let mut inputs = outputs::model_files(&args.model);
    inputs.extend(args.teacher.iter().flat_map(|teacher| outputs::model_files(teacher)));
    let files = [
        &args.calibration.statistics,
        &args.size.prices,
        &args.calibration.calibrate,
        &args.metadata,
        &args.overrides.tensor_type_file,
    ];
    inputs.extend(files.into_iter().flatten().chain(&args.verify).cloned());
    check_journal(args)?;
    let out = args.out.iter().filter(|_| !args.keep_split);
    let all: Vec<&Path> =
        out.chain(&args.manifest).chain(&args.report).chain(&args.html).map(PathBuf::as_path).collect();
    outputs::check(&inputs, &all)?;
    Ok(outputs::try_start(&all, args.force)?)
}

fn means(args: &Args) -> RunArgs {
    RunArgs { memory: args.memory, threads: args.threads, quiet: args.quiet }
}

/// Arguments to a job: names become types, files are read, statistics and prices are made where types are chosen by them.
fn job(args: &Args) -> anyhow::Result<Job> {
    let (target, for_prices) = (args.target(), args.needs_prices());
    let method = args.calibration.method(for_prices)?;
    // Read before any run, so that a wrong name costs nothing.
    let types = target.is_none().then(|| args.by_file_type()).transpose()?;
    let listed = target.map(|target| args.listed(target)).transpose()?;
    let made =
        args.calibration.statistics(&method, for_prices, (&args.model, &args.text_args), &means(args))?;
    let types = match (types, listed) {
        (Some(types), _) => types,
        (None, Some(listed)) => args.by_prices(listed, &method, &made)?,
        (None, None) => args.by_file_type()?,
    };
    Ok(Job {
        model: args.model.clone(),
        types,
        statistics: made.statistics,
        encoder: method.encoder,
        metadata: args.metadata.clone(),
        overrides: args.override_kv.clone(),
        keep_split: args.keep_split,
        pre: args.text_args.pre.clone(),
    })
}

fn execute(args: &Args, prepared: &Prepared) -> anyhow::Result<Report> {
    let out = args.out.clone().context("no output: give -o OUT.gguf")?;
    let cancel = cancel_on_signal()?;
    let (manifest, report) = (args.manifest.clone(), args.report.clone());
    let outputs = Outputs { model: out, manifest, report, force: args.force };
    prepared.check_outputs(&outputs)?;
    prepared.check_room(&outputs)?;
    let journal = journal(args, prepared, &outputs.model)?;
    let written = calibrate(args, prepared, cancel, journal.as_ref()).and_then(|calibrated| {
        let display = Display::of_parts(args.quiet);
        let resources = Resources { memory: args.memory, threads: args.threads };
        let report = prepared.run(calibrated.as_ref(), &outputs, &resources, cancel, &display);
        display.finish();
        Ok(report?)
    });
    end_journal(journal, &outputs.model, written.as_ref().err(), cancel)?;
    written
}
