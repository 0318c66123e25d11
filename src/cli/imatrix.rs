//! `kquant imatrix merge` and `kquant imatrix show`.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use kquant::outputs;
use kquant::statistics::{EntryStatistics, Form, MatrixStatistics, Merged, merge, merge_hessians};
use kquant_formats::FormatError;
use kquant_formats::hessian;
use kquant_formats::imatrix::Imatrix;

use super::hessians::{self, Shown};
use super::printable::{printable, printable_path};
use super::running::cancel_on_signal;
use super::{Outcome, print_json, table};

/// Layers named as those with the most importance.
const TOP_LAYERS: usize = 5;

const MERGE_EXAMPLES: &str = "\
Examples:
  kquant imatrix merge -o both.gguf prose.gguf code.gguf
  kquant imatrix merge -o new.gguf old.dat --chunk-size 512
  kquant imatrix merge -o old.dat new.gguf
  kquant imatrix merge -o statistics.gguf part-1.gguf part-2.gguf";

const SHOW_EXAMPLES: &str = "\
Examples:
  kquant imatrix show imatrix.gguf
  kquant imatrix show imatrix.gguf --sort zeros
  kquant imatrix show imatrix.gguf --json | jq .coverage";

/// Merge importance matrices, or show what is in one
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Merge(MergeArgs),
    Show(ShowArgs),
}

/// Add up importance matrices; one alone is converted
///
/// Takes GGUF and legacy .dat files, of llama-imatrix too, or statistics files with Hessians. The order of the files changes no
/// byte of the output.
#[derive(Debug, clap::Args)]
#[command(after_help = MERGE_EXAMPLES)]
struct MergeArgs {
    /// The importance matrices.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The file to write; .gguf, or .dat for the legacy form.
    #[arg(short, long)]
    out: PathBuf,
    /// Tokens per chunk: of legacy files, which do not tell, and of the result.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunk_size: Option<u32>,
    /// Replace an existing output.
    #[arg(long)]
    force: bool,
}

/// Show coverage, zero columns and the spread of importance
#[derive(Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
struct ShowArgs {
    /// An importance matrix, GGUF or legacy .dat.
    file: PathBuf,
    /// Order of the entries; but for `name`, the largest first.
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Sort {
    /// By layer, then by name.
    Name,
    /// Sum of the mean squares.
    Total,
    /// Mean of the mean squares.
    Mean,
    /// Largest mean square.
    Max,
    /// Number of columns without any importance.
    Zeros,
    /// How evenly importance is spread.
    Entropy,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Merge(args) => run_merge(args),
        Command::Show(args) => run_show(&args),
    }
}

fn run_merge(args: MergeArgs) -> anyhow::Result<Outcome> {
    let form = Form::of(&args.out)?;
    // An input may be replaced by the sum: all are read before.
    outputs::check_names(&args.files, &[&args.out])?;
    outputs::try_start(&[&args.out], args.force)?;
    let with: Vec<bool> =
        args.files.iter().map(|path| hessian::HessianFile::is_at(path)).collect::<Result<_, _>>()?;
    if with.contains(&true) {
        return merge_statistics(&args, form, &with);
    }
    let open = |path: PathBuf| {
        let matrix = Imatrix::open(&path)?;
        Ok((path, matrix))
    };
    let files = args.files.into_iter().map(open).collect::<Result<Vec<_>, FormatError>>()?;
    let Merged { matrix, notes } = merge(&files, args.chunk_size)?;
    for note in notes {
        writeln!(io::stderr(), "warning: {}", printable(&note))?;
    }
    // Ctrl-C would leave the file half-written; it is written in a moment.
    cancel_on_signal()?;
    form.write(&matrix, &args.out, args.force)?;
    writeln!(io::stdout(), "{}: {}", printable_path(&args.out), summary(&matrix))?;
    Ok(Outcome::Done)
}

/// Adds up statistics files; `with` tells which of the files are such.
fn merge_statistics(args: &MergeArgs, form: Form, with: &[bool]) -> anyhow::Result<Outcome> {
    if let (Some(one), Some(none)) = (with.iter().position(|&w| w), with.iter().position(|&w| !w)) {
        let [one, none] = [one, none].map(|i| args.files[i].display());
        bail!("{none} has no Hessians, {one} has: they cannot be added up; calibrate again with --hessian");
    }
    if form == Form::Dat {
        bail!("{}: the legacy form cannot hold Hessians; end the name in .gguf", args.out.display());
    }
    if args.chunk_size.is_some() {
        bail!("--chunk-size is for importance matrices alone; files with Hessians say what theirs is");
    }
    merge_hessians(&args.files, (&args.out, args.force), cancel_on_signal()?)?;
    let file = kquant::statistics::HessianFile::open(&args.out)?;
    writeln!(io::stdout(), "{}: {}", printable_path(&args.out), super::calibrate::summary(&file))?;
    Ok(Outcome::Done)
}

fn summary(matrix: &Imatrix) -> String {
    let chunks = match (matrix.chunk_count, matrix.chunk_size) {
        (Some(n), Some(size)) => format!(", {n} chunks of {size} tokens"),
        (Some(n), None) => format!(", {n} chunks"),
        (None, _) => String::new(),
    };
    // Quoted and escaped: a file may hold anything.
    let texts: Vec<String> = matrix.datasets.iter().map(|name| format!("{name:?}")).collect();
    let texts = if texts.is_empty() { String::new() } else { format!(", from {}", texts.join(", ")) };
    format!("{} entries{chunks}{texts}", matrix.entries.len())
}

fn run_show(args: &ShowArgs) -> anyhow::Result<Outcome> {
    let matrix = Imatrix::open(&args.file)?;
    let mut statistics = MatrixStatistics::of(&matrix);
    sort(&mut statistics.entries, args.sort);
    let hessians = hessians::read(&args.file)?;
    if args.json {
        print_json(&Shown { statistics: &statistics, hessians })?;
    } else {
        print_text(&format!("{}: {}", printable_path(&args.file), summary(&matrix)), &statistics)?;
        if let Some(hessians) = hessians {
            hessians.print()?;
        }
    }
    Ok(Outcome::Done)
}

fn sort(entries: &mut [EntryStatistics], by: Sort) {
    let by_value = |entries: &mut [EntryStatistics], value: fn(&EntryStatistics) -> f64| {
        entries.sort_by(|a, b| value(b).total_cmp(&value(a)));
    };
    match by {
        Sort::Name => {}
        Sort::Total => by_value(entries, |e| e.total),
        Sort::Mean => by_value(entries, |e| e.mean),
        Sort::Max => by_value(entries, |e| e.max),
        Sort::Zeros => entries.sort_by_key(|e| Reverse(e.zero_columns)),
        Sort::Entropy => by_value(entries, |e| e.entropy),
    }
}

fn print_text(title: &str, statistics: &MatrixStatistics) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{title}\n")?;
    let head = [
        "tensor",
        "columns",
        "experts",
        "count",
        "total",
        "mean",
        "max",
        "zero columns",
        "zero groups",
        "entropy",
        "top 1 %",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(statistics.entries.iter().map(row));
    table::write(&mut out, &rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])?;

    writeln!(out, "\ncoverage")?;
    for run in &statistics.coverage {
        let layers = match run.last - run.first {
            0 => format!("layer {}", run.first),
            _ => format!("layers {} to {}", run.first, run.last),
        };
        let tensors: Vec<&str> = run.tensors.iter().map(String::as_str).collect();
        writeln!(out, "  {layers}: {}", tensors.join(", "))?;
    }
    if !statistics.outside_layers.is_empty() {
        writeln!(out, "  outside layers: {}", statistics.outside_layers.join(", "))?;
    }
    let top = statistics.layers.iter().take(TOP_LAYERS);
    let top: Vec<String> = top.map(|l| format!("{} ({:.1} %)", l.layer, l.share * 100.0)).collect();
    if !top.is_empty() {
        writeln!(out, "layers with the most importance: {}", top.join(", "))?;
    }
    for entry in statistics.entries.iter().filter(|e| e.unused > 0) {
        let EntryStatistics { name, unused, matrices, .. } = entry;
        writeln!(out, "{name}: {unused} of {matrices} experts were never used; their columns count alike")?;
    }
    Ok(())
}

fn row(entry: &EntryStatistics) -> Vec<String> {
    vec![
        entry.name.clone(),
        entry.columns.to_string(),
        entry.matrices.to_string(),
        entry.count.to_string(),
        number(entry.total),
        number(entry.mean),
        number(entry.max),
        entry.zero_columns.to_string(),
        entry.zero_groups.to_string(),
        format!("{:.3}", entry.entropy),
        format!("{:.3}", entry.top_share),
    ]
}

/// A few significant digits, of anything from noise to explosion.
fn number(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value) { format!("{value:.4}") } else { format!("{value:.3e}") }
}
