//! Which encoder and which statistics `quantize` uses.

use std::path::Path;

use anyhow::{Context, bail};
use kquant::encode;
use kquant::encode::{Encoder, feedback};
use kquant::hash::bytes_sha256;
use kquant::job::Statistics;
use kquant::layerwise::{Calibration, Source};
use kquant::model::Products;
use kquant::statistics::HessianFile;

use super::quality::Quality;
use super::{Args, means};
use crate::cli::calibrate::importance;
use crate::cli::running::TextFile;

/// The encoder called `name`.
pub(super) fn encoder(name: &str) -> Result<&'static dyn Encoder, String> {
    encode::by_name(name).ok_or_else(|| {
        let names: Vec<_> = encode::ENCODERS.iter().map(|e| e.name()).collect();
        format!("choose from {}", names.join(", "))
    })
}

/// The help text of `--encoder`.
pub(super) fn encoder_help() -> String {
    let list: Vec<_> = encode::ENCODERS.iter().map(|e| format!("{}: {}", e.name(), e.about())).collect();
    format!("How weights are rounded; by default {}. {}", DEFAULTS, list.join("; "))
}

/// As [`Args::encoder`] chooses.
const DEFAULTS: &str = "gptq with --calibrate or Hessians, auto with --imatrix, else guarded";

impl Args {
    /// The encoder asked for, or the best for the statistics at hand.
    pub(super) fn encoder(&self) -> anyhow::Result<&'static dyn Encoder> {
        let asked = self.quality_encoder();
        if (asked.is_some() || self.feedback.is_some()) && self.calibrate.is_none() && self.imatrix.is_none()
        {
            bail!(
                "--quality and --feedback need a text: give --calibrate TEXT, or --imatrix with statistics of one"
            );
        }
        let name = match (&self.calibrate, &self.imatrix) {
            _ if asked.is_some() => asked.unwrap_or_default(),
            (Some(_), _) => "gptq",
            (None, Some(path)) if has_hessians(path)? => "gptq",
            (None, Some(_)) => "auto",
            (None, None) => "guarded",
        };
        let encoder = self.encoder.or_else(|| encode::by_name(name)).context("no encoder")?;
        if encoder.wants_hessians() && self.calibrate.is_none() && self.imatrix.is_none() {
            bail!(
                "--encoder {} needs a text: give --calibrate TEXT, or choose --encoder search",
                encoder.name()
            );
        }
        Ok(encoder)
    }
}

/// Whether the importance matrix `path` is a whole statistics file. What cannot be read is told of when it is opened.
fn has_hessians(path: &Path) -> anyhow::Result<bool> {
    Ok(path.is_file() && kquant_formats::hessian::HessianFile::is_at(path)?)
}

/// Statistics as the arguments ask for them; where only importance is wanted of a text, the model is run now.
pub(super) fn statistics(args: &Args, encoder: &dyn Encoder) -> anyhow::Result<Statistics> {
    let both_sides = args.both_sides()?;
    if both_sides && !encoder.wants_hessians() {
        bail!("--feedback both is of --encoder gptq: leave out --encoder {}", encoder.name());
    }
    let source = match (&args.calibrate, &args.imatrix) {
        (None, None) => return Ok(Statistics::None),
        (None, Some(path)) if encoder.wants_hessians() => {
            let file = HessianFile::open(path).with_context(|| {
                format!("--encoder {} needs Hessians, of `kquant calibrate --hessian`", encoder.name())
            })?;
            let model = args.text_args.open(&args.model)?;
            (model, Source::Statistics { path: path.clone(), file })
        }
        (None, Some(path)) => return Ok(Statistics::File(path.clone())),
        (Some(text), _) => {
            let mut model = args.text_args.open(&args.model)?;
            let text = TextFile::read(text)?;
            let chunks = args.text_args.chunks(&model, &text)?;
            let (sha256, bytes) = (bytes_sha256(text.content.as_bytes()), text.content.len() as u64);
            let path = text.path;
            if !encoder.wants_hessians() {
                let means = means(args);
                let matrix =
                    means.run(|| importance(&model, &chunks, &path, args.output_tensor, &means))??;
                return Ok(Statistics::Collected { text: path, sha256, bytes, matrix });
            }
            if args.text_args.products.is_none() {
                model.compute_in(Products::Bf16);
            }
            (model, Source::Text { path, sha256, bytes, chunks })
        }
    };
    let (model, source) = source;
    match &source {
        Source::Statistics { path, file } if both_sides && file.description().fishers.is_none() => bail!(
            "{}: has no Fisher matrices, which feedback over both sides needs; make it with `kquant calibrate --fisher`, or give \
             --calibrate TEXT",
            path.display()
        ),
        _ => {}
    }
    let options =
        feedback::Options { rounds: args.rounds, row_passes: args.passes, ..feedback::Options::default() };
    let with_output = args.output_tensor || args.quality == Some(Quality::Best);
    let both_sides = both_sides.then_some(args.seed);
    let calibration = Calibration { model, source, options, both_sides, with_output };
    Ok(Statistics::Calibration(Box::new(calibration)))
}
