//! What all kinds of pruning give.

use kquant_formats::gguf::{Metadata, Value};

use crate::context::{After, Context, Unit};
use crate::convert::Converted;
use crate::model::{Model, ModelError};
use crate::statistics::Fishers;
use crate::text::Chunks;

/// A model of which something was cut, and a report of that.
pub struct Pruned<R> {
    /// The model that is left.
    pub model: Converted,
    /// The numbers.
    pub report: R,
}

/// Returns the number of weights of `model`.
pub(super) fn parameters(model: &Converted) -> u64 {
    model.tensors.iter().map(|tensor| tensor.weights()).sum()
}

/// Records the SHA-256 of the text, in hexadecimal, by which it was chosen what is cut.
pub(super) fn record_text(keys: &mut Metadata, sha256: &str) {
    keys.set("kquant.pruned.text.sha256", Value::String(sha256.to_owned()));
}

/// Runs `pass`, which takes `work` units of work, with the Fisher matrices of the outputs of `model` over `chunks`, with labels drawn by
/// `seed`; without a seed there are none.
pub(super) fn with_fishers<T, E: From<ModelError>>(
    (model, chunks): (&Model, &Chunks),
    seed: Option<u64>,
    run: &Context,
    work: u64,
    pass: impl FnOnce(Option<&Fishers>, &Context) -> Result<T, E>,
) -> Result<T, E> {
    let before = seed.map_or(0, |_| Fishers::work(model, chunks));
    run.progress.begin(before + work, Unit::Work);
    let collect = |seed| Fishers::collect(model, chunks, run.memory / 2, seed, run.cancel, run.progress);
    let fishers = seed.map(collect).transpose()?;
    let progress = After { before, whole: run.progress };
    let memory = if seed.is_some() { run.memory - run.memory / 4 } else { run.memory };
    pass(fishers.as_ref(), &Context { memory, progress: &progress, ..*run })
}
