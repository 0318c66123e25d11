//! Runs a model over a text and lets an observer see every linear layer's input.

use crate::context::Context;
use crate::model::{Model, ModelError, OUTPUT, Observer, Pass};
use crate::text::Chunks;
use crate::text::block_tokens;

/// Returns the units of work that [`Context::progress`] is reported in: tokens times layers.
pub fn work(model: &Model, chunks: &Chunks) -> u64 {
    (chunks.tokens().len() * model.hyper.layers) as u64
}

/// Shows `observer` the inputs of every linear layer for every token of `chunks`, in groups of chunks that fit
/// `run.memory`. The output projection's input is computed only if `with_output`.
///
/// # Errors
/// Fails when the model cannot be run or the observer returns an error.
pub fn collect(
    model: &Model,
    chunks: &Chunks,
    observer: &mut dyn Observer,
    with_output: bool,
    run: &Context,
) -> Result<(), ModelError> {
    let context = chunks.context();
    let pass = Pass { context, memory: run.memory, cancel: run.cancel, progress: run.progress };
    let head = if with_output { Some(model.head(0)?) } else { None };
    let at_once = model.chunks_at_once(&pass, 1)?;
    let mut done = 0;
    for tokens in chunks.tokens().chunks(at_once * context) {
        let hidden = model.hidden(tokens, &pass, Some(observer), done)?;
        if let Some(head) = &head {
            for first in (0..tokens.len()).step_by(block_tokens(context)) {
                let rows = block_tokens(context).min(tokens.len() - first);
                observer.linear_input(
                    &[OUTPUT],
                    &head.normed(hidden.rows(first, rows)),
                    model.hyper.hidden,
                )?;
            }
        }
        observer.end_of_chunks(tokens.len() / context);
        done += (tokens.len() * model.hyper.layers) as u64;
    }
    Ok(())
}
