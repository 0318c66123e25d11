//! The run of a teacher over a text.

use half::f16;
use kquant_formats::targets::Rows;
use rayon::prelude::*;

use super::super::DistillError;
use crate::context::Context;
use crate::evaluate::{EvaluateError, Normalizer, model_error};
use crate::model::{Head, Hidden, Model, Pass};
use crate::text::chunks_per_block;

/// Runs `teacher` over `tokens` `[chunks][context]` and passes what it predicts after each of them to `each`, some whole chunks at a
/// time and in order: the `top` likeliest tokens and what all others get. Progress goes up to
/// `tokens * (layers + 1)`.
///
/// # Errors
/// Fails when the teacher cannot be run, and as `each` does.
pub fn predict(
    teacher: &Model,
    (tokens, context): (&[u32], usize),
    top: usize,
    run: &Context,
    mut each: impl FnMut(Rows) -> Result<(), DistillError>,
) -> Result<(), DistillError> {
    let fault = |e| DistillError::from(model_error(teacher, e));
    let pass = Pass { context, memory: run.memory / 2, cancel: run.cancel, progress: run.progress };
    let head = teacher.head(run.memory / 4).map_err(fault)?;
    let at_once = teacher.chunks_at_once(&pass, 1).map_err(fault)?;
    let mut done = 0;
    for tokens in tokens.chunks(at_once * context) {
        let hidden = teacher.hidden(tokens, &pass, None, done).map_err(fault)?;
        let unit = chunks_per_block(context) * context;
        for first in (0..tokens.len()).step_by(unit) {
            let range = first..tokens.len().min(first + unit);
            each(rows((teacher, &head), &hidden, (range, context), top)?)?;
        }
        done += (tokens.len() * (teacher.hyper.layers + 1)) as u64;
        run.progress.advance(done, "teacher");
    }
    Ok(())
}

/// Returns the predictions after the last layer's states `hidden` of the tokens `range`, which are whole chunks of `context`.
fn rows(
    (teacher, head): (&Model, &Head),
    hidden: &Hidden,
    (range, context): (std::ops::Range<usize>, usize),
    top: usize,
) -> Result<Rows, EvaluateError> {
    let chunks = range.clone().step_by(context);
    let states: Vec<f32> = chunks.flat_map(|chunk| hidden.rows(chunk, context)).copied().collect();
    let logits = head.logits(&head.normed(&states)).map_err(|e| model_error(teacher, e))?;
    let known = teacher.known_tokens();
    let of_row = |row: usize| {
        let mut all = Vec::new();
        logits.row(row, &mut all);
        let at = range.start + row;
        let fault = |source| EvaluateError::Row { chunk: at / context, position: at % context, source };
        let total = Normalizer::of(&all).map_err(fault)?;
        Ok(likeliest(&all[..known.min(all.len())], top, |logit| -total.nll(logit)))
    };
    let found: Vec<Row> =
        (0..range.len()).into_par_iter().map(of_row).collect::<Result<_, EvaluateError>>()?;
    let mut rows = Rows::default();
    for row in found {
        rows.ids.extend(row.ids);
        rows.log_probabilities.extend(row.log_probabilities);
        rows.rest.push(row.rest);
    }
    Ok(rows)
}

/// The prediction after one token.
#[derive(Debug, PartialEq)]
struct Row {
    /// In rising order.
    ids: Vec<u32>,
    /// Bits of 16-bit floats.
    log_probabilities: Vec<u16>,
    /// What all other tokens get, by the probabilities before rounding.
    rest: f32,
}

/// Returns the `top` tokens of the largest `logits`, whose log-probabilities `of` gives; of equals the lower number is taken.
fn likeliest(logits: &[f32], top: usize, of: impl Fn(f32) -> f64) -> Row {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if top < ids.len() && top > 0 {
        let by_logit = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
        ids.select_nth_unstable_by(top - 1, by_logit);
    }
    ids.truncate(top);
    ids.sort_unstable();
    let exact: Vec<f64> = ids.iter().map(|&id| of(logits[id as usize])).collect();
    let known: f64 = exact.iter().map(|log_p| log_p.exp()).sum();
    let log_probabilities = exact.iter().map(|&log_p| f16::from_f64(log_p).to_bits()).collect();
    Row { ids, log_probabilities, rest: (1.0 - known).clamp(0.0, 1.0) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_tokens_come_in_order() {
        let logits = [0.5, 3.0, -1.0, 3.0, 2.0];
        let ids = |top| likeliest(&logits, top, |_| -2.0).ids;
        assert_eq!(
            (ids(0), ids(1), ids(2), ids(3), ids(5)),
            (vec![], vec![1], vec![1, 3], vec![1, 3, 4], vec![0, 1, 2, 3, 4])
        );
    }

    #[test]
    fn the_rest_is_what_is_left_before_rounding() {
        let row = likeliest(&[-0.1, -3.0, -30.0], 1, f64::from);
        assert_eq!(row.rest, (1.0 - (-0.1f32 as f64).exp()) as f32);
        assert_eq!(row.log_probabilities, [f16::from_f32(-0.1).to_bits()]);
    }
}
