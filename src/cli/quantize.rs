//! `kquant quantize`.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use kquant::encode::{self, Encoder};
use kquant::evaluate::{self, Chunks, Reference, Run};
use kquant::model::Model;
use kquant::plan::{KeyOverride, PlanView};
use kquant::quantize::{Job, Outputs, Prepared, Report, Resources, Statistics, prepare};
use kquant::recipe;
use kquant_formats::partial::PartialFile;

use super::calibrate::importance;
use super::progress::{Display, Unit};
use super::running::{Means, TextArgs, cancel_on_signal};
use super::{Outcome, bytes, print_json, table};

const EXAMPLES: &str = "\
Examples:
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q4_K_M
  kquant quantize model-f16.gguf -o model.gguf --type Q3_K_S --imatrix imatrix.gguf
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --type Q3_K_S --calibrate calibration.txt --verify wiki.test.raw --max-kl 0.05
  kquant quantize Llama-3.2-1B/ --type Q4_K_M --dry-run
  kquant quantize model/ -o out.gguf --type Q4_K_M --tensor-type 'ffn_down=Q6_K' --output-tensor-type Q8_0";

/// Quantize a checkpoint or a GGUF to one GGUF
///
/// Nothing is half-written: the output appears under its name when it is complete. The bytes do not depend on threads or memory.
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
    /// Importance matrix (GGUF or legacy .dat of llama-imatrix).
    #[arg(long, value_name = "FILE", conflicts_with = "calibrate")]
    imatrix: Option<PathBuf>,
    /// Run this text through the model first, and weight errors by what it uses.
    #[arg(long, value_name = "TEXT")]
    calibrate: Option<PathBuf>,
    #[arg(long, value_name = "NAME", default_value = encode::ENCODERS[0].name(), value_parser = encoder, help = encoder_help())]
    encoder: &'static dyn Encoder,

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

    /// Set metadata; TYPE is int, float, bool or str; repeatable.
    #[arg(long, value_name = "KEY=TYPE:VALUE", help_heading = "Output")]
    override_kv: Vec<KeyOverride>,
    /// Write as many files as the input has.
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
    /// Threads; by default one per core.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help_heading = "Running")]
    threads: usize,
    /// Buffers in flight, whatever the tensors' sizes.
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = bytes::parse, help_heading = "Running")]
    memory: u64,
}

fn encoder(name: &str) -> Result<&'static dyn Encoder, String> {
    encode::by_name(name).ok_or_else(|| {
        let names: Vec<_> = encode::ENCODERS.iter().map(|e| e.name()).collect();
        format!("choose from {}", names.join(", "))
    })
}

fn encoder_help() -> String {
    let list: Vec<_> = encode::ENCODERS.iter().map(|e| format!("{}: {}", e.name(), e.about())).collect();
    format!("How weights are rounded. {}", list.join("; "))
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    // Read before the work, so that a bad text or path costs nothing.
    let judge = args.verify.as_deref().map(|text| Judge::new(&args, text)).transpose()?;
    if let (Some(out), Some(_)) = (&args.out, &args.calibrate)
        && !(args.dry_run || args.keep_split)
    {
        drop(PartialFile::create(out, 0, args.force)?);
    }
    let prepared = prepare(job(&args)?)?;
    let view = prepared.view();
    if args.dry_run {
        if args.json {
            print_json(&view)?;
        } else {
            print_plan(&view)?;
        }
        return Ok(Outcome::Done);
    }
    if !args.quiet {
        warn(&view)?;
    }
    let report = execute(&args, &prepared)?;
    let proof = judge.map(|judge| judge.verify(&args, &report)).transpose()?;
    if args.json {
        print_json(&Printed { written: &report, proof: proof.as_ref() })?;
    } else if !args.quiet {
        print_report(&report)?;
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

/// Importance as the arguments ask for it; `--calibrate` runs the model now.
fn statistics(args: &Args) -> anyhow::Result<Statistics> {
    let Some(text) = &args.calibrate else {
        return Ok(args.imatrix.clone().map_or(Statistics::None, Statistics::File));
    };
    let model = Model::open(&args.model, args.text_args.pre.as_deref())?;
    let chunks = args.text_args.chunks(&model, text)?;
    let means = means(args);
    let matrix = means.run(|| importance(&model, &chunks, text, false, &means))??;
    Ok(Statistics::Collected { text: text.clone(), matrix })
}

fn means(args: &Args) -> Means {
    Means { memory: args.memory, threads: args.threads, quiet: args.quiet }
}

/// What the result is scored against, and on what.
struct Judge {
    source: Model,
    chunks: Chunks,
}

impl Judge {
    fn new(args: &Args, text: &Path) -> anyhow::Result<Self> {
        let source = Model::open(&args.model, args.text_args.pre.as_deref())?;
        let chunks = args.text_args.chunks(&source, text)?;
        Ok(Self { source, chunks })
    }

    /// Scores what was written against what it was made of.
    fn verify(&self, args: &Args, report: &Report) -> anyhow::Result<evaluate::Report> {
        let Self { source, chunks } = self;
        let out = report.files.first().context("nothing was written")?;
        let result = Model::open(&out.path, None)?;
        let means = means(args);
        let cancel = cancel_on_signal()?;
        let total = evaluate::work(source, chunks) + evaluate::work(&result, chunks);
        let display = Display::new(total, Unit::Work, args.quiet);
        let run = Run { memory: means.memory, cancel, progress: &display };
        let reference = Reference::Model(source);
        let proof =
            means.run(|| evaluate::evaluate(&result, Some(&reference), chunks, None, &run, &mut |_| {}))?;
        display.finish();
        Ok(proof?)
    }
}

fn check_divergence(args: &Args, proof: Option<&evaluate::Report>) -> anyhow::Result<Outcome> {
    let kl = proof.and_then(|p| p.comparison.as_ref()).map(|c| c.kl.mean);
    match (kl, args.max_kl) {
        // A divergence or limit that is no number is no pass either.
        (Some(kl), Some(limit)) if kl.partial_cmp(&limit).is_none_or(Ordering::is_gt) => {
            writeln!(io::stderr(), "check failed: mean KL divergence {kl:.6} is more than --max-kl {limit}")?;
            Ok(Outcome::CheckFailed)
        }
        _ => Ok(Outcome::Done),
    }
}

/// Arguments to a job: names become types, files are read.
fn job(args: &Args) -> anyhow::Result<Job> {
    let mut tensor_types =
        args.tensor_type.iter().map(|a| recipe::TensorType::parse(a)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.tensor_type_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
        let listed = recipe::TensorType::parse_file(&text).with_context(|| path.display().to_string())?;
        tensor_types.extend(listed);
    }
    let block = |name: &Option<String>| name.as_deref().map(recipe::block_type).transpose();
    Ok(Job {
        model: args.model.clone(),
        recipe: recipe::Options {
            file_type: recipe::file_type(&args.kind)?,
            pure: args.pure,
            tensor_types,
            output_tensor_type: block(&args.output_tensor_type)?,
            token_embedding_type: block(&args.token_embedding_type)?,
            leave_output_tensor: args.leave_output_tensor,
            allow_requantize: args.allow_requantize,
        },
        statistics: statistics(args)?,
        encoder: args.encoder,
        overrides: args.override_kv.clone(),
        keep_split: args.keep_split,
        pre: args.text_args.pre.clone(),
    })
}

fn execute(args: &Args, prepared: &Prepared) -> anyhow::Result<Report> {
    let out = args.out.clone().context("no output: give -o OUT.gguf")?;
    let cancel = cancel_on_signal()?;
    let display = Display::new(prepared.tensor_bytes(), Unit::Bytes, args.quiet);
    let outputs = Outputs { model: out, manifest: args.manifest.clone(), force: args.force };
    let resources = Resources { memory: args.memory, threads: args.threads };
    let report = prepared.run(&outputs, &resources, cancel, &display);
    display.finish();
    Ok(report?)
}

/// What the user should know before a long run: warnings and tensors that do not get the type they should.
fn warn(view: &PlanView) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for warning in view.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    if view.fallbacks > 0 {
        writeln!(
            err,
            "warning: {} of {} tensors ({:.1} % of the weights) cannot have the type of the recipe; see --dry-run",
            view.fallbacks,
            view.tensors.len(),
            view.fallback_weights * 100.0
        )?;
    }
    Ok(())
}

fn print_plan(view: &PlanView) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut rows = vec![["tensor", "shape", "from", "to", "bytes", "bpw", ""].map(str::to_owned).to_vec()];
    for t in &view.tensors {
        let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
        let mut note = t.fallback.map_or_else(String::new, |f| format!("not {}: {}", f.wanted, f.why));
        if t.importance {
            note.insert_str(0, if note.is_empty() { "importance" } else { "importance; " });
        }
        rows.push(vec![
            t.name.to_owned(),
            shape.join(" x "),
            t.source_type.to_owned(),
            t.kind.to_owned(),
            t.bytes.to_string(),
            format!("{:.4}", t.bits_per_weight),
            note,
        ]);
    }
    table::write(&mut out, &rows, &[1, 4, 5])?;
    writeln!(
        out,
        "\n{} tensors, {} weights, {} ({:.4} bits per weight), file {}",
        view.tensors.len(),
        view.weights,
        bytes::show(view.tensor_bytes),
        view.bits_per_weight,
        bytes::show(view.file_bytes)
    )?;
    out.flush()?;
    warn(view)
}

fn print_report(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let total: u64 = report.files.iter().map(|f| f.bytes).sum();
    let elapsed = report.elapsed.as_secs_f64();
    for file in &report.files {
        writeln!(out, "{}: {}", file.path.display(), bytes::show(file.bytes))?;
        writeln!(out, "  sha256 {}", file.sha256)?;
    }
    writeln!(
        out,
        "{} -> {}, {:.3} bits per weight, {:.1} s, {:.1} M weights/s",
        bytes::show(report.source_bytes),
        bytes::show(total),
        report.bits_per_weight,
        elapsed,
        report.weights as f64 / elapsed / 1e6
    )
}
