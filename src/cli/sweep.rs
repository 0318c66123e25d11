//! `kquant sweep`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use kquant::chart::{Chart, Mark, Point, Series};
use kquant::context;
use kquant::job::{
    Job, Measurement, Method, Resources, Sweep, SweepRequest, TextFile, Types, measure, read_prices, sweep,
};
use kquant::outputs;
use kquant::recipe::{Allocated, Allocation, Menu, PriceUnit, Target};
use kquant::report::{Inspected, ModelSummary, chart_section, facts_section, table_section};
use kquant_formats::partial::PartialFile;

use super::calibration::CalibrationArgs;
use super::overrides::OverrideArgs;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, page, table};

/// The whole curve of size against KL divergence, with llama-quantize's file types on it
///
/// Every point is the best choice of types for its size by the prices of `kquant prices`; how much one more megabyte saves stands beside
/// it. Names of texts in a file's metadata may add some hundred bytes to the sizes; predictions above 0.1 nats are too low. With --measure, some of the files are really made and scored, with the options of `kquant quantize`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant sweep Llama-3.2-1B/ --prices prices.json
  kquant sweep Llama-3.2-1B/ --prices prices.json --menu phone -o sweep.svg --json sweep.json
  kquant sweep Llama-3.2-1B/ --prices prices.json --statistics statistics.gguf --measure 5 --text wiki.test.raw -o sweep.svg")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// What tensors cost, of `kquant prices`.
    #[arg(long, value_name = "FILE")]
    prices: PathBuf,
    #[arg(long, value_name = "MENU", default_value = "all")]
    #[arg(help = "Types to choose from: all, phone, cpu, gpu, or a list such as Q4_0,Q8_0", long_help = format!("Types to choose from: a list such as Q4_0,Q8_0, or a menu. {}", Menu::help()))]
    menu: String,
    /// Sizes, evenly spaced from the smallest to the largest file.
    #[arg(long, value_name = "N", default_value_t = 24)]
    points: usize,
    /// Make N of the files in a temporary folder and score them on --text.
    #[arg(long, value_name = "N", requires = "text")]
    measure: Option<usize>,
    /// Text to score files on, which should not be the one that prices were made with.
    #[arg(long, value_name = "FILE", requires = "measure")]
    text: Option<PathBuf>,
    /// Draw the curve as SVG.
    #[arg(long, short, value_name = "FILE.svg")]
    out: Option<PathBuf>,
    /// Write a page for a browser: the curve with llama-quantize's file types on it, and its figures.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    #[command(flatten, next_help_heading = "Types")]
    overrides: OverrideArgs,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten, next_help_heading = "Texts")]
    text_args: TextArgs,
    #[command(flatten, next_help_heading = "Running")]
    means: RunArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let method = check(args)?;
    let allocation = Allocation {
        target: Target::Size(0),
        menu: Menu::parse(&args.menu)?,
        prices: read_prices(&args.prices)?,
        overrides: args.overrides.read()?,
        repaired: method.layers.is_some() && args.calibration.runs_a_text(false)?,
    };
    let mut curve = sweep(&SweepRequest {
        model: &args.model,
        pre: args.text_args.pre.as_deref(),
        allocation: &allocation,
        points: args.points,
    })?;
    // The curve is worth having even if no file of it can be made.
    let measured = match (args.measure, &args.text) {
        (Some(count), Some(text)) => measured(args, &method, (count, text), &mut curve),
        _ => Ok(()),
    };
    let mut files = Vec::new();
    let written =
        [(&args.out, chart(&curve, args).svg()), (&args.json, serde_json::to_string_pretty(&curve)? + "\n")];
    for (path, content) in &written {
        if let Some(path) = path {
            let mut file = PartialFile::create(path, 0, args.force)?;
            file.fill(content.as_bytes())?;
            files.push(file);
        }
    }
    if let Some(path) = &args.html {
        files.push(page_of(args, path, &curve)?);
    }
    PartialFile::finish_all(files)?;
    if !args.means.quiet {
        print(&curve)?;
    }
    measured.map(|()| Outcome::Done)
}

/// Checks paths and options before any work.
fn check(args: &Args) -> anyhow::Result<Method> {
    let mut inputs = outputs::model_files(&args.model);
    let calibration = [&args.calibration.statistics, &args.calibration.calibrate, &args.text];
    inputs.extend(calibration.into_iter().flatten().chain([&args.prices]).cloned());
    let all: Vec<&Path> = args.out.iter().chain(&args.json).chain(&args.html).map(PathBuf::as_path).collect();
    outputs::check(&inputs, &all)?;
    outputs::try_start(&all, args.force)?;
    if args.points < 2 {
        bail!("--points {}: a curve has at least 2", args.points);
    }
    args.calibration.method(false)
}

/// Makes and scores `count` points of `curve` on `text`.
fn measured(
    args: &Args,
    method: &Method,
    (count, text): (usize, &Path),
    curve: &mut Sweep,
) -> anyhow::Result<()> {
    let source = args.text_args.open(&args.model)?;
    let chunks = args.text_args.chunks(&source, &TextFile::read(text)?)?;
    let display = Display::of_parts(args.means.quiet);
    let context =
        context::Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let job = |chosen: &Allocated| -> anyhow::Result<Job> {
        let made = args.calibration.statistics(method, false, (&args.model, &args.text_args), &args.means)?;
        Ok(Job {
            model: args.model.clone(),
            types: Types::Chosen(Box::new(chosen.clone())),
            statistics: made.statistics,
            encoder: method.encoder,
            metadata: None,
            overrides: Vec::new(),
            keep_split: false,
            pre: args.text_args.pre.clone(),
        })
    };
    let resources = Resources { memory: args.means.memory, threads: args.means.threads };
    let measurement = Measurement { source: &source, chunks: &chunks, count, resources: &resources };
    let result = args.means.run(|| measure(curve, &measurement, job, &context))?;
    display.finish();
    result
}

/// Bytes of a megabyte as sizes of files are given.
const MEGABYTE: f64 = 1e6;

/// The curve, its measured points and the file types.
fn chart(curve: &Sweep, args: &Args) -> Chart {
    let point =
        |bytes: u64, y: f64, label: &str| Point { x: bytes as f64 / MEGABYTE, y, label: label.to_owned() };
    let predicted = curve.points.iter().map(|p| point(p.bytes, p.predicted, "")).collect();
    let measured: Vec<Point> =
        curve.points.iter().filter_map(|p| Some(point(p.bytes, p.measured?, ""))).collect();
    let types = curve.file_types.priced.iter().map(|t| point(t.bytes, t.cost, t.name)).collect();
    let series = |name: &str, mark, points| Series { name: name.to_owned(), mark, points };
    let mut all = vec![
        series("types by prices, predicted", Mark::Line, predicted),
        series("llama-quantize's file types, predicted", Mark::Cross, types),
    ];
    if !measured.is_empty() {
        all.push(series("types by prices, measured", Mark::Circle, measured));
    }
    let name = args.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Chart {
        title: format!("{name}: size and divergence"),
        x_axis: "file, MB of 1e6 bytes".into(),
        y_axis: match curve.unit {
            PriceUnit::Nats => "KL divergence, nats per token".into(),
            PriceUnit::RelativeError => "sum of relative errors".into(),
        },
        series: all,
    }
}

/// Writes the page to a file that has no name yet.
fn page_of(args: &Args, path: &Path, curve: &Sweep) -> anyhow::Result<PartialFile> {
    let model = ModelSummary::read(&Inspected::open(&args.model, args.text_args.pre.as_deref())?)?;
    let [points, types] = tables(curve);
    let unpriced = match curve.file_types.unpriced.as_slice() {
        [] => String::new(),
        names => format!(" Not priced: {}.", names.join(", ")),
    };
    let sections = vec![
        facts_section(&[("Original", &model)]),
        chart_section(
            "size",
            "Size and divergence",
            "Each point of the curve is the best choice of types for its size, by what each tensor costs at each type. Down and to the left \
             is better.",
            &chart(curve, args),
        ),
        table_section(
            "points",
            "Points of the curve",
            "What files of some sizes cost, and what one megabyte more saves.",
            &points,
        ),
        table_section(
            "file-types",
            "llama-quantize's file types",
            &format!("What the mixtures of llama-quantize cost by the same prices.{unpriced}"),
            &types,
        ),
    ];
    let ends =
        [curve.points.first(), curve.points.last()].map(|p| p.map_or(0.0, |p| p.bytes as f64 / MEGABYTE));
    let title = format!("{}: size and divergence", model.name);
    let lead = format!("{} sizes from {:.2} to {:.2} MB.", curve.points.len(), ends[0], ends[1]);
    page::fill(path, (&title, &lead), sections, args.force)
}

/// The rows of both tables, heads first.
fn tables(curve: &Sweep) -> [Vec<Vec<String>>; 2] {
    let megabytes = |bytes: u64| format!("{:.2}", bytes as f64 / MEGABYTE);
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.6}"));
    let head = ["MB", "bytes", "bpw", "predicted", "saved by 1 MB more", "measured"];
    let mut points = vec![head.map(str::to_owned).to_vec()];
    for p in &curve.points {
        let (predicted, saved) = (number(Some(p.predicted)), number(p.per_megabyte));
        let bits = format!("{:.3}", p.bits_per_weight);
        points.push(vec![
            megabytes(p.bytes),
            p.bytes.to_string(),
            bits,
            predicted,
            saved,
            number(p.measured),
        ]);
    }
    let head = ["file type", "MB", "bytes", "predicted", "best at that size", ""];
    let mut types = vec![head.map(str::to_owned).to_vec()];
    for t in &curve.file_types.priced {
        let by = t.dominated_by.map_or_else(String::new, |name| format!("{name} is no larger and no worse"));
        let (cost, best) = (number(Some(t.cost)), number(t.best));
        types.push(vec![t.name.to_owned(), megabytes(t.bytes), t.bytes.to_string(), cost, best, by]);
    }
    [points, types]
}

/// Both tables.
fn print(curve: &Sweep) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let [points, types] = tables(curve);
    table::write(&mut out, &points, &[0, 1, 2, 3, 4, 5])?;
    writeln!(out)?;
    table::write(&mut out, &types, &[1, 2, 3, 4])?;
    if !curve.file_types.unpriced.is_empty() {
        writeln!(out, "not priced: {}", curve.file_types.unpriced.join(", "))?;
    }
    Ok(())
}
