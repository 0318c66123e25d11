//! `kquant quantize`.

mod calibration;
mod print;
mod proof;
mod quality;
mod statistics;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use kquant::encode::{Encoder, feedback};
use kquant::evaluate;
use kquant::job::{Job, Outputs, Prepared, Report, Resources, prepare};
use kquant::outputs;
use kquant::plan::KeyOverride;
use kquant::recipe;
use kquant_formats::whole;

use super::progress::{Display, Unit};
use super::running::{Means, TextArgs, cancel_on_signal};
use super::{Outcome, bytes, print_json};
use calibration::calibrate;
use proof::{Judge, check_divergence};
use quality::{Quality, Sides};
use statistics::{encoder, encoder_help, statistics};

const EXAMPLES: &str = "\
Examples:
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q4_K_M
  kquant quantize model-f16.gguf -o model.gguf --type Q3_K_S --imatrix imatrix.gguf
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_S --calibrate calibration.txt
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_S --calibrate calibration.txt --verify wiki.test.raw --max-kl 0.05
  kquant quantize Llama-3.2-1B/ --type Q4_K_M --dry-run
  kquant quantize model/ -o out.gguf --type Q4_K_M --tensor-type 'ffn_down=Q6_K' --output-tensor-type Q8_0";

/// Quantize a checkpoint or a GGUF to one GGUF
///
/// Nothing is half-written: the output appears under its name when it is complete. The bytes do not depend on threads, memory or the way of reading.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF (any file of a split one).
    model: PathBuf,
    /// The GGUF to write.
    #[arg(short, long, required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// File type, as llama-quantize names it: Q4_K_M, Q3_K_S, IQ4_XS, Q8_0, BF16, COPY ...
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: String,
    /// Importance matrix (GGUF or legacy .dat of llama-imatrix), or statistics of `kquant calibrate --hessian`.
    #[arg(long, value_name = "FILE", conflicts_with = "calibrate", help_heading = "Calibration")]
    imatrix: Option<PathBuf>,
    /// Run this text, a file or a pipe, through the model, and round so that what it computes changes least.
    #[arg(long, value_name = "TEXT", help_heading = "Calibration")]
    calibrate: Option<PathBuf>,
    #[arg(long, value_name = "LEVEL", value_enum, conflicts_with = "encoder", help_heading = "Calibration")]
    #[arg(help = "How much is done with the calibration text: fast, good (the default) or best", long_help = quality::HELP)]
    quality: Option<Quality>,
    #[arg(long, value_name = "NAME", value_parser = encoder, help_heading = "Calibration")]
    #[arg(help = "How weights are rounded; --help lists the encoders", long_help = encoder_help())]
    encoder: Option<&'static dyn Encoder>,
    /// Where rounding errors are made up for.
    ///
    /// `columns`: in later columns of the same row. `both`: in other rows, too, weighted by what an error of each output costs the model;
    /// that takes a backward pass, or statistics of `kquant calibrate --fisher`.
    #[arg(long, value_name = "SIDES", value_enum, help_heading = "Calibration")]
    feedback: Option<Sides>,
    /// With feedback over both: how often each row is encoded again with all others as they are.
    #[arg(long, value_name = "N", default_value_t = feedback::Options::default().row_passes, help_heading = "Calibration")]
    passes: usize,
    /// With feedback over both: what the labels of the backward pass are drawn by.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Calibration")]
    seed: u64,
    /// Round output.weight with feedback from the text, too.
    #[arg(long, requires = "calibrate", help_heading = "Calibration")]
    output_tensor: bool,
    /// Rounds of refinement after the weights are rounded with feedback: more lower the error a little, for more time.
    #[arg(long, value_name = "N", default_value_t = feedback::Options::default().rounds, help_heading = "Calibration")]
    rounds: usize,
    /// Write what calibration did to each tensor, as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Calibration")]
    report: Option<PathBuf>,

    /// One type for every tensor, without the mixture.
    #[arg(long, help_heading = "Types")]
    pure: bool,
    /// Type of the tensors whose GGUF name matches; the first match wins; repeatable.
    #[arg(long, value_name = "REGEX=TYPE", help_heading = "Types")]
    tensor_type: Vec<String>,
    /// File of REGEX=TYPE, separated by white space; after those of --tensor-type.
    #[arg(long, value_name = "FILE", help_heading = "Types")]
    tensor_type_file: Option<PathBuf>,
    /// Type of output.weight.
    #[arg(long, value_name = "TYPE", help_heading = "Types")]
    output_tensor_type: Option<String>,
    /// Type of the token embeddings.
    #[arg(long, value_name = "TYPE", help_heading = "Types")]
    token_embedding_type: Option<String>,
    /// Keep output.weight in its type.
    #[arg(long, help_heading = "Types")]
    leave_output_tensor: bool,
    /// Quantize tensors that are quantized already; costs quality.
    #[arg(long, help_heading = "Types")]
    allow_requantize: bool,

    /// Authorship as llama.cpp's converter takes it: JSON of `general.*` keys, before model card and names.
    #[arg(long, value_name = "FILE.json", help_heading = "Output")]
    metadata: Option<PathBuf>,
    /// Set metadata; TYPE is int, float, bool or str; a key that is there keeps its type; repeatable.
    #[arg(long, value_name = "KEY=TYPE:VALUE", help_heading = "Output")]
    override_kv: Vec<KeyOverride>,
    /// Write as many files as the input has, OUT-00001-of-0000N.gguf and so on; OUT may be given as one of these names.
    #[arg(long, help_heading = "Output")]
    keep_split: bool,
    /// Replace an existing output.
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Write hashes of sources, tensors and files, options and plan as JSON.
    #[arg(long, value_name = "M", help_heading = "Output")]
    manifest: Option<PathBuf>,

    /// Afterwards score result and source on this text: perplexity and KL divergence.
    #[arg(long, value_name = "TEXT", help_heading = "Proof")]
    verify: Option<PathBuf>,
    /// Exit with code 1 if the mean KL divergence is more than this; the output is kept.
    #[arg(long, value_name = "X", requires = "verify", help_heading = "Proof")]
    max_kl: Option<f64>,
    #[command(flatten, next_help_heading = "Texts")]
    text_args: TextArgs,

    /// Show what would be written, and stop.
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
    /// Buffers in flight and mapped windows of the input, whatever the tensors' sizes.
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = bytes::parse, help_heading = "Running")]
    memory: u64,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    // Checked before the work, so that a bad text or path costs nothing.
    if !args.dry_run {
        check_outputs(&args)?;
    }
    let judge = args.verify.as_deref().map(|text| Judge::new(&args, text)).transpose()?;
    let prepared = prepare(job(&args)?)?;
    let view = prepared.view();
    if args.dry_run {
        if args.json {
            print_json(&view)?;
        } else {
            print::plan(&view)?;
        }
        return Ok(Outcome::Done);
    }
    if !args.quiet {
        print::warn(&view)?;
    }
    let report = execute(&args, &prepared)?;
    if !args.quiet {
        print::warnings(&report.warnings)?;
    }
    let proof = judge.map(|judge| judge.verify(&args, &report)).transpose()?;
    if args.json {
        print_json(&Printed { written: &report, proof: proof.as_ref() })?;
    } else if !args.quiet {
        print::report(&report)?;
        if let Some(proof) = &proof {
            write!(io::stdout(), "{}", proof.text())?;
        }
    }
    check_divergence(&args, proof.as_ref())
}

/// What `--json` prints after a run.
#[derive(serde::Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    written: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a evaluate::Report>,
}

/// Checks all but the names of a split output, which its plan tells.
fn check_outputs(args: &Args) -> anyhow::Result<()> {
    let mut inputs = outputs::model_files(&args.model);
    let files = [&args.imatrix, &args.calibrate, &args.verify, &args.metadata, &args.tensor_type_file];
    inputs.extend(files.into_iter().flatten().cloned());
    let out = args.out.iter().filter(|_| !args.keep_split);
    let all: Vec<&Path> = out.chain(&args.manifest).chain(&args.report).map(PathBuf::as_path).collect();
    outputs::check(&inputs, &all)?;
    Ok(outputs::try_start(&all, args.force)?)
}

fn means(args: &Args) -> Means {
    Means { memory: args.memory, threads: args.threads, quiet: args.quiet }
}

/// Arguments to a job: names become types, files are read.
fn job(args: &Args) -> anyhow::Result<Job> {
    let mut tensor_types =
        args.tensor_type.iter().map(|a| recipe::TensorType::parse(a)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.tensor_type_file {
        let text = String::from_utf8(whole::read(path, whole::CONFIGURATION)?)
            .with_context(|| format!("{}: the file is not UTF-8", path.display()))?;
        let listed = recipe::TensorType::parse_file(&text).with_context(|| path.display().to_string())?;
        tensor_types.extend(listed);
    }
    let encoder = args.encoder()?;
    let block = |name: &Option<String>| name.as_deref().map(recipe::block_type).transpose();
    Ok(Job {
        model: args.model.clone(),
        io: args.text_args.reading.io(),
        types: recipe::Options {
            file_type: recipe::file_type(&args.kind)?,
            pure: args.pure,
            overrides: recipe::Overrides {
                tensor_types,
                output_tensor_type: block(&args.output_tensor_type)?,
                token_embedding_type: block(&args.token_embedding_type)?,
                leave_output_tensor: args.leave_output_tensor,
                allow_requantize: args.allow_requantize,
            },
        },
        statistics: statistics(args, encoder)?,
        encoder,
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
    let calibrated = calibrate(args, prepared, cancel)?;
    let display = Display::new(prepared.tensor_bytes(), Unit::Bytes, args.quiet);
    let resources = Resources { memory: args.memory, threads: args.threads };
    let report = prepared.run(calibrated.as_ref(), &outputs, &resources, cancel, &display);
    display.finish();
    Ok(report?)
}
