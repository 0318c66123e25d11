//! `kquant distill`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kquant::chart::{Chart, Mark, Point, Series};
use kquant::context::Context;
use kquant::distill::{Checkpoints, DistillReport, Measured, Method, TeacherFiles, Trained};
use kquant::hash::bytes_sha256;
use kquant::job::{self, DistillRequest, Judges, Student, TaughtBy, TextFile, TrainingLength};
use kquant::model::{Model, Products};
use kquant::outputs;
use kquant::report::{Section, chart_section};
use kquant_formats::partial::PartialFile;

use super::changed::{Destination, kind_of};
use super::printable::printable_path;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, folder, notes, page, print_json, table};

/// Train a smaller model to predict what a larger one does
///
/// The student is a pruned model, or any model with the teacher's vocabulary or a part of it. Its weights are moved until its predictions
/// over a text are those of the teacher: knowledge distillation. The divergence on text that was not trained on is measured before, on the
/// way and after; the best moment is kept, and nothing is written unless it is better than the student as it came.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant prune Llama-3.2-1B/ -o narrow.gguf --ffn 25% --text calibration.txt
  kquant distill narrow.gguf --teacher Llama-3.2-1B/ --text calibration.txt -o trained.gguf --tokens 2M
  kquant distill narrow.gguf --teacher Llama-3.2-1B/ --text calibration.txt -o trained.gguf --minutes 30
  kquant distill narrow.gguf --teacher Llama-3.2-1B/ --text calibration.txt -o trained.gguf --tokens 20M --checkpoint state.gguf --resume
  kquant teach Llama-3.2-1B/ --text calibration.txt -o teacher.gguf
  kquant distill narrow.gguf --targets teacher.gguf -o trained.gguf
  kquant quantize trained.gguf -o small.gguf --size 500M --calibrate calibration.txt

Exit codes: 0 done, 1 the student came no closer to its teacher and nothing was written, 2 wrong usage or unusable input.")]
pub(super) struct Args {
    /// The student: a Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    student: PathBuf,
    /// The model that it learns from.
    #[arg(long, value_name = "MODEL", value_parser = crate::cli::hub::model, required_unless_present = "targets")]
    teacher: Option<PathBuf>,
    /// Text to train on.
    #[arg(long, value_name = "FILE", required_unless_present = "targets")]
    text: Option<PathBuf>,
    /// Learn from files that `kquant teach` made, which hold the text as well; the teacher is then run only over --held-out and
    /// --other-text. Give all parts of the text.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["text", "context", "top"])]
    targets: Vec<PathBuf>,
    /// Text to judge by; by default one block of eight of the text, which is then not trained on.
    #[arg(long, value_name = "FILE")]
    held_out: Option<PathBuf>,
    /// Text of another kind: its divergence is told beside, and shows what is forgotten.
    #[arg(long, value_name = "FILE")]
    other_text: Option<PathBuf>,
    /// Draw the course of the divergence as SVG.
    #[arg(long, value_name = "FILE.svg")]
    chart: Option<PathBuf>,
    /// Write a page for a browser: the course of the divergence and, with --teacher, how far predictions on --held-out or --text are apart.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The GGUF to write; or, as a name that ends in `/` or an empty folder, a Hugging Face folder.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Tokens to train on, as 500k or 2M; more than the text has are further passes over it.
    ///
    /// 1M by default.
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "minutes")]
    tokens: Option<u64>,
    /// Train for so long. What is reached then depends on the machine: the same bytes come only of --tokens.
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<f64>,
    /// How steps are made.
    #[arg(long, value_name = "NAME", default_value = "soap")]
    optimizer: OptimizerArg,
    /// Which weights are trained.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    train: TrainArg,
    /// Size of the largest steps; by default 5e-4, for natural 0.02. Steps that make the student worse on held-out text are taken back
    /// and halved.
    #[arg(long, value_name = "X")]
    rate: Option<f64>,
    /// Chunks of a step; by default as many as make up 4,096 tokens.
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// Likeliest tokens of the teacher that are told apart at each position; all others count together.
    #[arg(long, value_name = "N", default_value = "128")]
    top: NonZeroUsize,
    /// Temperature of the loss: above 1, unlikely tokens count more. Held-out text is always judged at 1.
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Keep the state of the run in this file, so that it can go on after it was stopped. It is removed when the student is written.
    #[arg(long, value_name = "FILE.gguf")]
    checkpoint: Option<PathBuf>,
    /// Minutes between two writings of --checkpoint.
    #[arg(long, value_name = "N", default_value = "10", value_parser = minutes, requires = "checkpoint")]
    every: f64,
    /// Go on from the state in --checkpoint, to the same bytes as if the run had not been stopped; begin if there is none.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// Seed of the order of the text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Type of the weights: F32, F16 or BF16; by default the student's.
    #[arg(long = "type", value_name = "TYPE", value_parser = ["F32", "F16", "BF16"])]
    kind: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    text_args: TextArgs,
    #[command(flatten)]
    means: RunArgs,
}

/// Tokens to train on where nothing is said.
const DEFAULT_TOKENS: u64 = 1_000_000;

/// Values of `--optimizer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OptimizerArg {
    /// Adam in the eigenvectors of the Kronecker factors of the student's own statistics.
    Soap,
    /// The natural gradient by Kronecker factors of the student's own statistics.
    Natural,
    /// Adam.
    Adamw,
}

/// Values of `--train`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TrainArg {
    /// Everything but attention sinks and biases of routers.
    All,
    /// Linear maps of the layers.
    Linear,
    /// Norms and biases.
    Norms,
}

/// A number of tokens: 3000, 500k, 2M.
pub(super) fn count(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let tokens = number.parse::<f64>().ok().map(|number| number * unit);
    match tokens.filter(|tokens| (1.0..=1e15).contains(tokens)) {
        Some(tokens) => Ok(tokens as u64),
        None => Err("give a number such as 300000, 500k or 2M".into()),
    }
}

/// A number of minutes above 0.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| (1e-3..=1e6).contains(minutes));
    minutes.ok_or_else(|| "give a number of minutes above 0".into())
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    check(args)?;
    let mut student = args.text_args.open(&args.student)?;
    notes::print(student.opened())?;
    let mut teacher = args.teacher.as_ref().map(|path| args.text_args.open(path)).transpose()?;
    if let Some(teacher) = &teacher {
        notes::print(teacher.opened())?;
    }
    if args.text_args.products.is_none() {
        student.compute_in(Products::Bf16);
        teacher.iter_mut().for_each(|teacher| teacher.compute_in(Products::Bf16));
    }
    let kind = kind_of(args.kind.as_deref(), &student, ".weight")?;
    folder::check(&args.out, &student, args.kind.as_deref())?;
    let Student { model, report } = trained(args, &mut student, teacher.as_ref())?;
    let better = report.is_better();
    if better {
        let target = Destination {
            model: &args.student,
            out: &args.out,
            asked: args.kind.as_deref(),
            kind,
            force: args.force,
            dry_run: false,
            text_args: &args.text_args,
            means: &args.means,
        };
        target.write(model)?;
    }
    if let Some(path) = &args.chart {
        let mut file = PartialFile::create(path, 0, args.force)?;
        file.fill(chart(&report, &args.student).svg().as_bytes())?;
        PartialFile::finish_all(vec![file])?;
    }
    if let Some(path) = &args.html {
        let written = if better { &args.out } else { &args.student };
        let own = vec![chart_section(
            "course",
            "The course of the training",
            "The divergence from the teacher on held-out text, on the batches, and on other text where one was given.",
            &chart(&report, &args.student),
        )];
        PartialFile::finish_all(vec![write_page(args, path, (teacher.as_ref(), written), own)?])?;
    }
    if let Some(path) = args.checkpoint.as_ref().filter(|path| path.exists()) {
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    match args.json {
        true => print_json(&report)?,
        false => tell(&args.out, &report)?,
    }
    Ok(if better { Outcome::Done } else { Outcome::CheckFailed })
}

/// Writes the page of the student at `student` beside its teacher, or beside the student as it came, to a file that has no name yet.
fn write_page(
    args: &Args,
    path: &Path,
    (teacher, student): (Option<&Model>, &Path),
    own: Vec<Section>,
) -> anyhow::Result<PartialFile> {
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let report = args.means.run(|| -> anyhow::Result<_> {
        let base = args.teacher.as_deref().unwrap_or(&args.student);
        let mut report = page::of_files(Some(base), student, args.text_args.pre.as_deref(), &run)?;
        if let (Some(teacher), Some(text)) = (teacher, args.held_out.as_ref().or(args.text.as_ref())) {
            let model = args.text_args.open(student)?;
            let chunks = args.text_args.chunks(&model, &TextFile::read(text)?)?.spread(page::CHUNKS);
            page::add_text(&mut report, (teacher, &model), (text, &chunks), &run)?;
        }
        Ok(report)
    })?;
    display.finish();
    page::of_report(path, &report?, own, args.force)
}

/// Checks all that can be checked before anything is read.
fn check(args: &Args) -> anyhow::Result<()> {
    if args.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        bail!("--rate: give a number above 0");
    }
    if !(0.1..=100.0).contains(&args.temperature) {
        bail!("--temperature: give a number from 0.1 to 100");
    }
    if args.teacher.is_none() && (args.held_out.is_some() || args.other_text.is_some()) {
        bail!("--held-out and --other-text: give --teacher as well, which is run over them");
    }
    let mut inputs = outputs::model_files(&args.student);
    inputs.extend(args.teacher.iter().flat_map(|teacher| outputs::model_files(teacher)));
    inputs
        .extend(args.text.iter().chain(&args.held_out).chain(&args.other_text).chain(&args.targets).cloned());
    if folder::is_asked(&args.out) {
        outputs::check_folder(&args.out)?;
    }
    let to_file = (!folder::is_asked(&args.out)).then_some(&args.out);
    let files: Vec<&Path> =
        to_file.into_iter().chain(&args.chart).chain(&args.html).map(PathBuf::as_path).collect();
    let with_state: Vec<&Path> = files.iter().copied().chain(args.checkpoint.as_deref()).collect();
    outputs::check(&inputs, &with_state)?;
    outputs::try_start(&files, args.force)?;
    // The state is replaced on the way; the first time, nothing else may be.
    let state = args.checkpoint.as_deref().into_iter().collect::<Vec<_>>();
    Ok(outputs::try_start(&state, args.force || args.resume)?)
}

/// Trains `student`.
fn trained(args: &Args, student: &mut Model, teacher: Option<&Model>) -> anyhow::Result<Student> {
    let whole = TextArgs { chunks: None, ..args.text_args.clone() };
    let text = args.text.as_ref().map(|path| TextFile::read(path)).transpose()?;
    let chunks = text.as_ref().map(|text| args.text_args.chunks(student, text)).transpose()?;
    let sha256 = text.as_ref().map(|text| bytes_sha256(text.content.as_bytes()));
    let files = (!args.targets.is_empty()).then(|| TeacherFiles::open(&args.targets)).transpose()?;
    // Texts are judged in chunks of the length that is trained on.
    let context = files.as_ref().map(|files| files.description().context).or(whole.context);
    let whole = TextArgs { context, ..whole };
    let read = |path: &PathBuf| anyhow::Ok(whole.chunks(student, &TextFile::read(path)?)?);
    let held_out = args.held_out.as_ref().map(read).transpose()?;
    let other = args.other_text.as_ref().map(read).transpose()?;
    let taught = match (&files, teacher, &chunks, &sha256) {
        (Some(files), ..) => TaughtBy::Files { files, limit: args.text_args.chunks },
        (None, Some(teacher), Some(chunks), Some(sha256)) => TaughtBy::Model { teacher, chunks, sha256 },
        _ => bail!("give --teacher and --text, or --targets"),
    };
    let request = DistillRequest {
        method: match args.optimizer {
            OptimizerArg::Natural => Method::Natural,
            OptimizerArg::Adamw => Method::AdamW,
            OptimizerArg::Soap => Method::Soap,
        },
        trained: match args.train {
            TrainArg::All => Trained::All,
            TrainArg::Linear => Trained::Linear,
            TrainArg::Norms => Trained::Norms,
        },
        rate: args.rate,
        batch: args.batch,
        length: match args.minutes {
            Some(minutes) => TrainingLength::Minutes(minutes),
            None => TrainingLength::Tokens(args.tokens.unwrap_or(DEFAULT_TOKENS)),
        },
        known: args.top,
        temperature: args.temperature,
        seed: args.seed,
        taught,
        judges: teacher.map(|teacher| Judges { teacher, held_out: held_out.as_ref(), other: other.as_ref() }),
        checkpoints: args.checkpoint.clone().map(|path| Checkpoints {
            path,
            every: Duration::from_secs_f64(args.every * 60.0),
            resume: args.resume,
        }),
    };
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let trained = args.means.run(|| job::distill(student, &request, &run))?;
    display.finish();
    Ok(trained?)
}

fn tell(out: &Path, of: &DistillReport) -> io::Result<()> {
    let to = &mut io::stdout().lock();
    let number = |kl: Option<f64>| kl.map_or_else(|| "-".to_owned(), |kl| format!("{kl:.5}"));
    let mut rows = vec![
        ["steps", "tokens", "seconds", "held-out", "trained", "other text", "rate"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for m in &of.course {
        let (step, tokens, seconds) = (m.step.to_string(), m.tokens.to_string(), format!("{:.0}", m.seconds));
        rows.push(vec![
            step,
            tokens,
            seconds,
            number(Some(m.held_out)),
            number(m.trained),
            number(m.other),
            format!("{:.1e}", m.rate),
        ]);
    }
    table::write(to, &rows, &[0, 1, 2, 3, 4, 5, 6])?;
    let (before, after) = of.before_and_after();
    if of.is_better() {
        writeln!(
            to,
            "{}: divergence from the teacher on held-out text {after:.5}, before {before:.5} nats per token",
            printable_path(out)
        )
    } else {
        writeln!(
            to,
            "nothing written: the student came no closer to its teacher than {before:.5} nats per token; give a smaller --rate or more text"
        )
    }
}

/// The divergence by tokens, on the text and on held-out text.
fn chart(of: &DistillReport, student: &Path) -> Chart {
    let series = |name: &str, mark, value: fn(&Measured) -> Option<f64>| {
        let point =
            |m: &Measured| Some(Point { x: m.tokens as f64 / 1e3, y: value(m)?, label: String::new() });
        Series { name: name.to_owned(), mark, points: of.course.iter().filter_map(point).collect() }
    };
    let mut all = vec![
        series("held-out text", Mark::Line, |m| Some(m.held_out)),
        series("batches", Mark::Circle, |m| m.trained),
        series("other text", Mark::Cross, |m| m.other),
    ];
    all.retain(|series| !series.points.is_empty());
    let name = student.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Chart {
        title: format!("{name}: divergence from the teacher"),
        x_axis: "tokens, thousands".into(),
        y_axis: "KL divergence, nats per token".into(),
        series: all,
    }
}
