//! What a vocabulary is worth to a model: the probability that it gives each token over a text, and what is lost when only
//! some tokens are kept.
//!
//! Where a text needs no lost token, hidden states stay as they are, and the softmax over the kept tokens differs from the
//! original's by a factor alone. The divergence at a position is then exactly `-ln(sum over the kept of p)`.

use rayon::prelude::*;

use super::run::{Side, model_error, work};
use super::{EvaluateError, Normalizer};
use crate::context::{Context, Unit};
use crate::model::{Logits, Model, Pass};
use crate::text::{Chunks, chunks_per_block};

/// Number of positions whose probabilities are held at a time.
const TOGETHER: usize = 16;

/// Number of neighbouring tokens to which one task adds.
const SLICE: usize = 8192;

/// Returns the sums over the scored positions of `chunks` of each token's probability, `[vocabulary]`.
///
/// # Errors
/// Fails as [`evaluate`](super::evaluate()) does.
pub fn masses(model: &Model, chunks: &Chunks, run: &Context) -> Result<Vec<f64>, EvaluateError> {
    let mut mass = vec![0.0; model.vocab_size()];
    each(model, chunks, run, &mut |rows: &[Vec<f64>]| {
        mass.par_chunks_mut(SLICE).enumerate().for_each(|(slice, sums)| {
            for row in rows {
                sums.iter_mut().zip(&row[slice * SLICE..]).for_each(|(sum, p)| *sum += p);
            }
        });
    })?;
    Ok(mass)
}

/// Returns the mean divergence, in nats per token over the scored positions, when the first `step`, `2 * step`, ... tokens
/// of `order` are kept; the last number is for all of `order`.
///
/// # Errors
/// Fails as [`evaluate`](super::evaluate()) does.
pub fn divergences(
    model: &Model,
    chunks: &Chunks,
    order: &[u32],
    step: usize,
    run: &Context,
) -> Result<Vec<f64>, EvaluateError> {
    let mut sums = vec![0.0; order.len().div_ceil(step)];
    each(model, chunks, run, &mut |rows: &[Vec<f64>]| {
        let of_row = |row: &Vec<f64>| -> Vec<f64> {
            let mut kept = 0.0;
            let mut add = |part: &[u32]| {
                kept += part.iter().map(|&id| row[id as usize]).sum::<f64>();
                // The sum of all probabilities may be a rounding error above 1.
                (-kept.ln()).max(0.0)
            };
            order.chunks(step).map(&mut add).collect()
        };
        for lost in rows.par_iter().map(of_row).collect::<Vec<_>>() {
            sums.iter_mut().zip(lost).for_each(|(sum, lost)| *sum += lost);
        }
    })?;
    let positions = (chunks.len() * chunks.scored().len()).max(1) as f64;
    Ok(sums.into_iter().map(|sum| sum / positions).collect())
}

/// Calls `see` with the probabilities `[vocabulary]` of all scored positions in order, some positions at a time.
fn each(
    model: &Model,
    chunks: &Chunks,
    run: &Context,
    see: &mut dyn FnMut(&[Vec<f64>]),
) -> Result<(), EvaluateError> {
    let pass = Pass {
        context: chunks.context(),
        memory: run.memory / 2,
        cancel: run.cancel,
        progress: run.progress,
    };
    let of_chunk = work(model, chunks) / chunks.len() as u64;
    run.progress.begin(work(model, chunks), Unit::Work);
    let side = Side::new(model, run.memory / 4)?;
    let at_once = model.chunks_at_once(&pass, 1).map_err(|e| model_error(model, e))?;
    let unit = chunks_per_block(chunks.context());
    for first in (0..chunks.len()).step_by(at_once) {
        let count = at_once.min(chunks.len() - first);
        let group = chunks.some(first..first + count);
        let hidden = side.hidden(group.tokens(), &pass, first as u64 * of_chunk)?;
        for start in (0..count).step_by(unit) {
            let some = unit.min(count - start);
            let logits = side.logits(&hidden, &group, start, some)?;
            let rows: Vec<usize> = (0..some * chunks.scored().len()).collect();
            for rows in rows.chunks(TOGETHER) {
                let of = |&row: &usize| {
                    probabilities(&logits, row).map_err(|source| EvaluateError::Row {
                        chunk: first + start + row / chunks.scored().len(),
                        position: chunks.scored().start + row % chunks.scored().len(),
                        source,
                    })
                };
                see(&rows.par_iter().map(of).collect::<Result<Vec<_>, EvaluateError>>()?);
            }
        }
    }
    Ok(())
}

/// Returns the probabilities of row `row`, `[vocabulary]`.
fn probabilities(logits: &Logits, row: usize) -> Result<Vec<f64>, super::RowError> {
    let mut values = Vec::new();
    logits.row(row, &mut values);
    let normalizer = Normalizer::of(&values)?;
    Ok(values.iter().map(|&logit| (-normalizer.nll(logit)).exp()).collect())
}
