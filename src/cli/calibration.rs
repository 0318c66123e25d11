//! The options on statistics and rounding that `quantize` and `prices` share.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use kquant::context::Context;
use kquant::encode;
use kquant::encode::{Encoder, feedback};
use kquant::job::{
    Method, MethodOptions, OwnShare, PreparedStatistics, Quality, StatisticsRequest, StatisticsSource,
    TextSource, statistics,
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
    #[command(flatten)]
    pub own: OwnTextArgs,
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
    /// What the model's own text and, with feedback over both, the labels of the backward pass are drawn by.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Calibration")]
    pub seed: u64,
    /// Round output.weight with feedback from the text, too.
    #[arg(long, conflicts_with = "statistics", help_heading = "Calibration")]
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

/// The part of a text that the model writes itself.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OwnTextArgs {
    /// Share of the calibration text that the model writes itself, as 50%; all of it where no text is given.
    ///
    /// A model's own text stands for what it was trained on. It is added to the whole of TEXT; with --chunks N there are N chunks of both together. Without TEXT the model writes 131072 tokens, or --chunks N.
    #[arg(long, value_name = "SHARE", help_heading = "Calibration")]
    pub own_text: Option<OwnShare>,
}

impl OwnTextArgs {
    /// The text to calibrate on: that of `file`, of the model, or of both.
    pub(super) fn source(&self, file: Option<&Path>) -> anyhow::Result<TextSource> {
        match (file, self.own_text) {
            (Some(file), share) => {
                Ok(TextSource { file: Some(file.to_owned()), own: share.unwrap_or(OwnShare::NOTHING) })
            }
            (None, None | Some(OwnShare::ALL)) => Ok(TextSource::own()),
            (None, Some(_)) => {
                bail!("--own-text: there is no text for the other part; give one, or --own-text 100%")
            }
        }
    }

    /// Says on stderr that the model writes the text, where nobody has asked for that.
    pub(super) fn note(&self, text: &TextSource) -> io::Result<()> {
        if text.file.is_some() || self.own_text.is_some() {
            return Ok(());
        }
        writeln!(io::stderr(), "note: no text is given, so that the model writes its own (--own-text 100%)")
    }
}

impl CalibrationArgs {
    /// Where statistics come from; they are `needed` if prices are to be made of them. Where something needs a text and there
    /// is none, the model writes one.
    pub(super) fn source(&self, needed: bool) -> anyhow::Result<StatisticsSource> {
        if let Some(path) = &self.statistics {
            if self.own.own_text.is_some() {
                bail!(
                    "--own-text has no use with --statistics, which are made of a text already: leave one out"
                );
            }
            return Ok(StatisticsSource::File(path.clone()));
        }
        let needed = needed
            || self.quality.is_some()
            || self.feedback.is_some()
            || self.output_tensor
            || self.encoder.is_some_and(Encoder::wants_hessians);
        if self.calibrate.is_none() && self.own.own_text.is_none() && !needed {
            return Ok(StatisticsSource::Nothing);
        }
        Ok(StatisticsSource::Text(self.own.source(self.calibrate.as_deref())?))
    }

    /// Whether the layers are run over a text while they are encoded, so that later ones make up for earlier ones.
    pub(super) fn runs_a_text(&self, needed: bool) -> anyhow::Result<bool> {
        Ok(matches!(self.source(needed)?, StatisticsSource::Text(_)))
    }

    /// How weights are rounded: as the arguments say, or best for the statistics at hand, which are `needed` for prices or not.
    pub(super) fn method(&self, needed: bool) -> anyhow::Result<Method> {
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
        Ok(options.choose(self.source(needed)?.known()?)?)
    }

    /// Statistics as the arguments ask for them; `for_prices` together with what prices are made of.
    pub(super) fn statistics(
        &self,
        method: &Method,
        for_prices: bool,
        (model, text_args): (&Path, &TextArgs),
        means: &RunArgs,
    ) -> anyhow::Result<PreparedStatistics> {
        let source = self.source(for_prices)?;
        if let StatisticsSource::Text(text) = &source
            && !means.quiet
        {
            self.own.note(text)?;
        }
        let open = || text_args.open_to_embed(model);
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
