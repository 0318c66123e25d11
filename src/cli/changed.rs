//! Writing a model that a command has changed.

use std::path::Path;

use anyhow::bail;
use kquant::context::Unit;
use kquant::convert::Converted;
use kquant::encode::ENCODERS;
use kquant::job::{self, Job, Outputs, Resources, Statistics, Types};
use kquant::model::Model;
use kquant::recipe::{self, Options};

use super::folder;
use super::progress::Display;
use super::running::{RunArgs, TextArgs, cancel_on_signal};

/// Where a changed model goes.
pub(super) struct Destination<'a> {
    /// The model that was changed.
    pub model: &'a Path,
    /// The GGUF to write, or a folder.
    pub out: &'a Path,
    /// Type of the weights that is asked for, if any is.
    pub asked: Option<&'a str>,
    /// Type of the weights of a GGUF; `COPY` leaves each tensor its own.
    pub kind: &'a str,
    /// True if an existing file is replaced.
    pub force: bool,
    /// True if nothing is written.
    pub dry_run: bool,
    pub text_args: &'a TextArgs,
    pub means: &'a RunArgs,
}

impl Destination<'_> {
    /// Writes `changed`, unless nothing is to be written, and returns its bytes.
    pub(super) fn write(&self, changed: Converted) -> anyhow::Result<u64> {
        if folder::is_asked(self.out) {
            return folder::write(self, &changed);
        }
        let mut options = Options::new(recipe::file_type(self.kind)?);
        // Asked for by name, or the type that the weights have.
        options.overrides.allow_requantize = self.kind != "COPY";
        let job = Job {
            model: self.model.to_owned(),
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

/// Returns the file type of a result in which the weights `of` were changed: what is asked for or, if nothing is, that of the first of
/// them, in which changed weights are stored like the others. A model without such weights keeps its types.
pub(super) fn kind_of<'a>(asked: Option<&'a str>, model: &Model, of: &str) -> anyhow::Result<&'a str> {
    if let Some(kind) = asked.filter(|&kind| kind != "COPY") {
        return Ok(kind);
    }
    let Some(tensor) = model.converted().tensors.iter().find(|t| t.name.ends_with(of)) else {
        return Ok("COPY");
    };
    let info = tensor.first_stored().and_then(|index| model.opened().checkpoint.tensors().get(index));
    let name = info.map_or("", |info| info.dtype);
    match ["F32", "F16", "BF16"].into_iter().find(|kind| *kind == name) {
        Some(kind) => Ok(kind),
        None => bail!(
            "the weights are quantized ({name}), and those that change would be rounded again: give --type F16, and quantize the result"
        ),
    }
}
