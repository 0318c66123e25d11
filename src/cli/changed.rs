//! Writing a model that a command has changed.

use std::path::Path;

use kquant::context::Unit;
use kquant::convert::Converted;
use kquant::encode::ENCODERS;
use kquant::job::{self, Job, Outputs, Resources, Statistics, Types};
use kquant::model::Model;
use kquant::recipe::{self, Options};

use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};

/// Where a changed model goes.
pub(super) struct Target<'a> {
    /// The model that was changed.
    pub model: &'a Path,
    /// The file to write.
    pub out: &'a Path,
    /// Type of the weights; `COPY` leaves each tensor its own.
    pub kind: &'a str,
    /// True if an existing file is replaced.
    pub force: bool,
    /// True if nothing is written.
    pub dry_run: bool,
    pub text_args: &'a TextArgs,
    pub means: &'a RunArgs,
}

impl Target<'_> {
    /// Writes `changed`, unless nothing is to be written, and returns its bytes.
    pub(super) fn write(&self, changed: Converted) -> anyhow::Result<u64> {
        let mut options = Options::new(recipe::file_type(self.kind)?);
        // Asked for by name, or the type that the weights have.
        options.overrides.allow_requantize = self.kind != "COPY";
        let job = Job {
            model: self.model.to_owned(),
            io: self.text_args.reading.io(),
            types: Types::FileType(options),
            statistics: Statistics::None,
            encoder: ENCODERS[0],
            metadata: None,
            overrides: Vec::new(),
            keep_split: false,
            pre: self.text_args.pre.clone(),
        };
        let prepared = job::prepare_changed(job, |_| changed)?;
        let bytes = prepared.plan.files.iter().map(|file| file.bytes).sum();
        if self.dry_run {
            return Ok(bytes);
        }
        let outputs = Outputs { model: self.out.to_owned(), manifest: None, report: None, force: self.force };
        let resources = Resources { memory: self.means.memory, threads: self.means.threads };
        let display = Display::new(prepared.tensor_bytes(), Unit::Bytes, self.means.quiet);
        let written = prepared.run(None, &outputs, &resources, cancel_on_signal()?, &display);
        display.finish();
        written?;
        Ok(bytes)
    }
}

/// Returns the bytes of the model's files.
pub(super) fn bytes_of(model: &Model) -> u64 {
    model.opened().files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// Returns the file type in which changed weights are stored like the others where none is asked for: that of the first layer's projection
/// out of the feed-forward network.
pub(super) fn kind_of(model: &Model) -> anyhow::Result<&'static str> {
    let down = model.converted().tensors.iter().find(|t| t.name.ends_with("ffn_down.weight"));
    let index = down.and_then(|tensor| tensor.first_stored());
    let info = index.and_then(|index| model.opened().checkpoint.tensors().get(index));
    let name = info.map_or("", |info| info.dtype);
    match ["F32", "F16", "BF16"].into_iter().find(|kind| *kind == name) {
        Some(kind) => Ok(kind),
        None => anyhow::bail!(
            "the weights are quantized ({name}), and those that change would be rounded again: give --type F16, and quantize the result"
        ),
    }
}
