//! The options on statistics and rounding that `quantize` and `prices` share.

use std::path::{Path, PathBuf};

use kquant::context::Context;
use kquant::encode;
use kquant::encode::{Encoder, feedback};
use kquant::job::{
    Method, MethodOptions, PreparedStatistics, Quality, StatisticsRequest, StatisticsSource, statistics,
};

use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};

/// The encoder called `name`.
fn encoder(name: &str) -> Result<&'static dyn Encoder, String> {
    encode::by_name(name).ok_or_else(|| {
        let names: Vec<_> = encode::ENCODERS.iter().map(|e| e.name()).collect();
        format!("choose from {}", names.join(", "))
    })
}

/// The help text of `--encoder`.
fn encoder_help() -> String {
    let list: Vec<_> = encode::ENCODERS.iter().map(|e| format!("{}: {}", e.name(), e.about())).collect();
    format!("How weights are rounded; by default {}. {}", DEFAULTS, list.join("; "))
}

/// As [`MethodOptions::choose`] does.
const DEFAULTS: &str = "gptq with --calibrate or Hessians, auto with an importance matrix, else guarded";

/// The help text of `--quality`.
const QUALITY: &str = "How much is done with the calibration text; good by default. fast: scales weighted by the inputs' mean squares \
    (one forward pass); good: errors made up for by later columns and layers (about 3.5 times as long); best: by other rows, too, and the \
    output tensor as well (about six times)";

/// Where statistics come from and how weights are rounded.
#[derive(Debug, clap::Args)]
pub(super) struct CalibrationArgs {
    /// Statistics of `kquant calibrate --hessian`, or an importance matrix (GGUF or legacy .dat of llama-imatrix).
    #[arg(
        long,
        value_name = "FILE",
        visible_alias = "imatrix",
        conflicts_with = "calibrate",
        help_heading = "Calibration"
    )]
    pub statistics: Option<PathBuf>,
    /// Run this text, a file or a pipe, through the model, and round so that what it computes changes least.
    #[arg(long, value_name = "TEXT", help_heading = "Calibration")]
    pub calibrate: Option<PathBuf>,
    #[arg(long, value_name = "LEVEL", value_enum, conflicts_with = "encoder", help_heading = "Calibration")]
    #[arg(help = "How much is done with the calibration text: fast, good (the default) or best", long_help = QUALITY)]
    pub quality: Option<Quality>,
    #[arg(long, value_name = "NAME", value_parser = encoder, help_heading = "Calibration")]
    #[arg(help = "How weights are rounded; --help lists the encoders", long_help = encoder_help())]
    pub encoder: Option<&'static dyn Encoder>,
    /// Where rounding errors are made up for.
    ///
    /// `columns`: in later columns of the same row. `both`: in other rows, too, weighted by what an error of each output costs the model;
    /// that takes a backward pass, or statistics of `kquant calibrate --fisher`.
    #[arg(long, value_name = "SIDES", value_enum, help_heading = "Calibration")]
    pub feedback: Option<Sides>,
    /// With feedback over both: how often each row is encoded again with all others as they are.
    #[arg(long, value_name = "N", default_value_t = feedback::Options::default().row_passes, help_heading = "Calibration")]
    pub passes: usize,
    /// With feedback over both: what the labels of the backward pass are drawn by.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Calibration")]
    pub seed: u64,
    /// Round output.weight with feedback from the text, too.
    #[arg(long, requires = "calibrate", help_heading = "Calibration")]
    pub output_tensor: bool,
    /// Rounds of refinement after the weights are rounded with feedback: more lower the error a little, for more time.
    #[arg(long, value_name = "N", default_value_t = feedback::Options::default().rounds, help_heading = "Calibration")]
    pub rounds: usize,
}

/// Where rounding errors are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sides {
    /// In later columns of the same row.
    Columns,
    /// In other rows, too.
    Both,
}

impl CalibrationArgs {
    /// Where statistics come from.
    pub(super) fn source(&self) -> StatisticsSource {
        match (&self.calibrate, &self.statistics) {
            (Some(text), _) => StatisticsSource::Text(text.clone()),
            (None, Some(path)) => StatisticsSource::File(path.clone()),
            (None, None) => StatisticsSource::Nothing,
        }
    }

    /// How weights are rounded: as the arguments say, or best for the statistics at hand.
    pub(super) fn method(&self) -> anyhow::Result<Method> {
        let options = MethodOptions {
            quality: self.quality,
            encoder: self.encoder,
            both_sides: self.feedback.map(|sides| sides == Sides::Both),
            with_output: self.output_tensor,
            feedback: feedback::Options {
                rounds: self.rounds,
                row_passes: self.passes,
                ..feedback::Options::default()
            },
        };
        Ok(options.choose(self.source().known()?)?)
    }

    /// Statistics as the arguments ask for them; `for_prices` together with what prices are made of.
    pub(super) fn statistics(
        &self,
        method: &Method,
        for_prices: bool,
        (model, text_args): (&Path, &TextArgs),
        means: &RunArgs,
    ) -> anyhow::Result<PreparedStatistics> {
        let source = self.source();
        let open = || text_args.open(model);
        let request = StatisticsRequest {
            source: &source,
            method,
            open: &open,
            cut: text_args.cut(),
            seed: self.seed,
            fast_products: text_args.products.is_none(),
            for_prices,
        };
        let display = Display::of_parts(means.quiet);
        let context = Context { memory: means.memory, cancel: cancel_on_signal()?, progress: &display };
        let made = means.run(|| statistics(&request, &context).map_err(anyhow::Error::from))?;
        display.finish();
        made
    }
}
