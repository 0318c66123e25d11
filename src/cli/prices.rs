//! `kquant prices`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kquant::context::Context;
use kquant::job::{Method, PreparedStatistics, PriceRequest, prices};
use kquant::outputs;
use kquant::recipe::{Allocation, Menu, Overrides, PriceList, PriceUnit};
use kquant_formats::partial::PartialFile;
use kquant_kernels::block::BlockType;

use super::Outcome;
use super::calibration::CalibrationArgs;
use super::printable::printable_path;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};

/// Measure what each tensor costs at each type: once, for files of any size
///
/// The price of a type for a tensor is the KL divergence, in nats per token, that its rounding errors add, to second order: from the
/// Hessian of the tensor's inputs and the Fisher matrix of its outputs, with the errors of the encoder that will be used. With an
/// importance matrix alone prices are relative errors, which are coarser.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant calibrate Llama-3.2-1B/ --text calibration.txt --fisher --output-tensor -o statistics.gguf
  kquant prices Llama-3.2-1B/ --statistics statistics.gguf -o prices.json
  kquant quantize Llama-3.2-1B/ -o llama-1b.gguf --size 700M --prices prices.json --statistics statistics.gguf
  kquant prices Llama-3.2-1B/ --calibrate calibration.txt --quality best --menu phone -o prices.json")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// The list to write, JSON.
    #[arg(long, short)]
    out: PathBuf,
    #[arg(long, value_name = "MENU", default_value = "all")]
    #[arg(help = "Types to price: all, phone, cpu, gpu, or a list such as Q4_0,Q8_0", long_help = format!("Types to price: a list such as Q4_0,Q8_0, or a menu. {}", Menu::help()))]
    menu: String,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten, next_help_heading = "Texts")]
    text_args: TextArgs,
    #[command(flatten, next_help_heading = "Running")]
    means: RunArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let menu = Menu::parse(&args.menu)?;
    let mut inputs = outputs::model_files(&args.model);
    let files = [&args.calibration.statistics, &args.calibration.calibrate];
    inputs.extend(files.into_iter().flatten().cloned());
    outputs::check(&inputs, &[&args.out])?;
    outputs::try_start(&[&args.out], args.force)?;
    let method = args.calibration.method(true)?;
    let made = args.calibration.statistics(&method, true, (&args.model, &args.text_args), &args.means)?;
    let types = Allocation::priced_types(&menu, &Overrides::default());
    let list = measured((&args.model, &args.text_args), &types, &method, &made, &args.means)?;
    let mut file = PartialFile::create(&args.out, 0, args.force)?;
    file.fill((serde_json::to_string_pretty(&list)? + "\n").as_bytes())?;
    PartialFile::finish_all(vec![file])?;
    if !args.means.quiet {
        writeln!(io::stdout(), "{}: {}", printable_path(&args.out), summary(&list, types.len()))?;
    }
    Ok(Outcome::Done)
}

/// The prices of `types` for the tensors of `model`, by what was `made` of it.
pub(super) fn measured(
    (model, text_args): (&Path, &TextArgs),
    types: &[&'static BlockType],
    method: &Method,
    made: &PreparedStatistics,
    means: &RunArgs,
) -> anyhow::Result<PriceList> {
    let request = PriceRequest { method, types };
    let display = Display::of_parts(means.quiet);
    let context = Context { memory: means.memory, cancel: cancel_on_signal()?, progress: &display };
    let open = || text_args.open(model);
    let list = means.run(|| prices(&request, made, &open, &context).map_err(anyhow::Error::from))?;
    display.finish();
    let list = list?;
    if list.origin.unit == PriceUnit::RelativeError {
        writeln!(
            io::stderr(),
            "note: prices by an importance matrix alone are relative errors, which are coarser and predict no divergence; --calibrate TEXT, or \
             statistics of `kquant calibrate --fisher --output-tensor`, give better ones"
        )?;
    }
    Ok(list)
}

/// One line on a list.
fn summary(list: &PriceList, types: usize) -> String {
    let unit = match list.origin.unit {
        PriceUnit::Nats => "in nats per token",
        PriceUnit::RelativeError => "as relative errors",
    };
    format!(
        "{} tensors at up to {types} types, {unit}, of encoder {}",
        list.tensors.len(),
        list.origin.encoder
    )
}
