//! The teacher's distributions over a text: the likeliest tokens of each position, and what all others get together.

use kquant_kernels::math;
use rayon::prelude::*;

use crate::context::Context;
use crate::evaluate::{EvaluateError, Normalizer, model_error};
use crate::model::backward::TeacherTarget;
use crate::model::{Head, Hidden, Model, Pass};
use crate::text::{Chunks, chunks_per_block};

/// The distributions after each token of a text, in the student's vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Number of tokens that are known at each position.
    known: usize,
    /// `[tokens][known]`, each row in rising order.
    ids: Vec<u32>,
    /// Probabilities of `ids`.
    p: Vec<f32>,
    /// Probability of all other tokens together, `[tokens]`.
    rest: Vec<f32>,
}

/// A teacher, and the way from the student's tokens to its own.
#[derive(Clone, Copy)]
pub struct TeacherModel<'a> {
    /// The teacher.
    pub model: &'a Model,
    /// The teacher's id of each token of the student, `[vocabulary]`, by [`Model::ids_in`]; `None` where they are the same.
    pub ids: Option<&'a [u32]>,
}

impl TeacherModel<'_> {
    /// Returns `tokens` of the student by the teacher's numbers.
    fn tokens(&self, tokens: &[u32]) -> Vec<u32> {
        let id = |&token: &u32| match self.ids {
            Some(ids) => ids.get(token as usize).copied().unwrap_or(u32::MAX),
            None => token,
        };
        tokens.iter().map(id).collect()
    }

    /// Returns the number of the student's tokens.
    fn vocabulary(&self) -> usize {
        self.ids.map_or(self.model.vocab_size(), <[u32]>::len)
    }
}

impl Targets {
    /// Runs the teacher over all tokens of `chunks`, which are the student's, and keeps the `known` likeliest tokens of each
    /// position.
    ///
    /// # Errors
    /// Fails when the teacher cannot be run.
    pub fn collect(
        teacher: TeacherModel,
        chunks: &Chunks,
        known: usize,
        run: &Context,
    ) -> Result<Self, EvaluateError> {
        let (model, context) = (teacher.model, chunks.context());
        let known = known.min(teacher.vocabulary());
        let pass = Pass { context, memory: run.memory / 2, cancel: run.cancel, progress: run.progress };
        let head = model.head(run.memory / 4).map_err(|e| model_error(model, e))?;
        let at_once = model.chunks_at_once(&pass, 1).map_err(|e| model_error(model, e))?;
        let tokens = teacher.tokens(chunks.tokens());
        let mut all = Self { known, ids: Vec::new(), p: Vec::new(), rest: Vec::new() };
        let mut done = 0;
        for tokens in tokens.chunks(at_once * context) {
            let hidden = model.hidden(tokens, &pass, None, done).map_err(|e| model_error(model, e))?;
            all.add((&teacher, &head), &hidden, (tokens.len(), context))?;
            done += (tokens.len() * (model.hyper.layers + 1)) as u64;
            run.progress.advance(done, "teacher");
        }
        Ok(all)
    }

    /// Adds the distributions after the last layer's states `hidden` of `tokens` tokens in chunks of `context`.
    fn add(
        &mut self,
        (teacher, head): (&TeacherModel, &Head),
        hidden: &Hidden,
        (tokens, context): (usize, usize),
    ) -> Result<(), EvaluateError> {
        let unit = chunks_per_block(context) * context;
        for first in (0..tokens).step_by(unit) {
            let last = tokens.min(first + unit);
            let chunks = (first..last).step_by(context);
            let rows: Vec<f32> = chunks.flat_map(|chunk| hidden.rows(chunk, context)).copied().collect();
            let logits = head.logits(&head.normed(&rows)).map_err(|e| model_error(teacher.model, e))?;
            let of_row = |row: usize| {
                let (mut all, mut kept) = (Vec::new(), Vec::new());
                logits.row(row, &mut all);
                let chunk = (first + row) / context;
                let fault = |source| EvaluateError::Row { chunk, position: row % context, source };
                let total = Normalizer::of(&all).map_err(fault)?;
                let own = match teacher.ids {
                    None => &all,
                    Some(ids) => {
                        kept.extend(ids.iter().map(|&id| all[id as usize]));
                        &kept
                    }
                };
                Ok(likeliest(own, self.known, |logit| (-total.nll(logit)).exp()))
            };
            let rows: Vec<Vec<(u32, f32)>> =
                (0..last - first).into_par_iter().map(of_row).collect::<Result<_, EvaluateError>>()?;
            for row in rows {
                let sum: f64 = row.iter().map(|&(_, p)| f64::from(p)).sum();
                self.rest.push((1.0 - sum).max(0.0) as f32);
                self.ids.extend(row.iter().map(|&(id, _)| id));
                self.p.extend(row.iter().map(|&(_, p)| p));
            }
        }
        Ok(())
    }

    /// Returns the mean divergence of the predictions of `student` from these distributions, over the scored positions of `chunks`, which
    /// they were collected over.
    ///
    /// # Errors
    /// Fails when the student cannot be run.
    pub fn divergence(&self, student: &Model, chunks: &Chunks, run: &Context) -> Result<f64, EvaluateError> {
        let (context, scored) = (chunks.context(), chunks.scored());
        let pass = Pass { context, memory: run.memory / 2, cancel: run.cancel, progress: run.progress };
        let fault = |e| model_error(student, e);
        let head = student.head(run.memory / 4).map_err(fault)?;
        let at_once = student.chunks_at_once(&pass, 1).map_err(fault)?;
        let (mut sum, mut chunk) = (0.0, 0);
        for tokens in chunks.tokens().chunks(at_once * context) {
            let hidden = student.hidden(tokens, &pass, None, 0).map_err(fault)?;
            for first in (0..tokens.len()).step_by(context) {
                let normed = head.normed(hidden.rows(first + scored.start, scored.len()));
                let logits = head.logits(&normed).map_err(fault)?;
                let of_row = |row: usize| {
                    let mut q = Vec::new();
                    logits.row(row, &mut q);
                    math::softmax(&mut q);
                    self.target(chunk * context + scored.start + row).divergence(&q)
                };
                sum +=
                    (0..scored.len()).into_par_iter().map(of_row).collect::<Vec<f64>>().iter().sum::<f64>();
                chunk += 1;
            }
        }
        Ok(sum / (chunk * scored.len()).max(1) as f64)
    }

    /// Returns the distribution that follows token number `token` of the text.
    pub fn target(&self, token: usize) -> TeacherTarget<'_> {
        let range = token * self.known..(token + 1) * self.known;
        TeacherTarget { ids: &self.ids[range.clone()], p: &self.p[range], rest: self.rest[token] }
    }

    /// Returns the bytes that the distributions of `tokens` tokens take.
    pub fn bytes(tokens: usize, known: usize) -> u64 {
        (tokens * (8 * known + 4)) as u64
    }
}

/// Returns the `known` tokens of the largest `logits` with their probabilities, in rising order of the tokens; of equals the
/// lower number is taken.
fn likeliest(logits: &[f32], known: usize, probability: impl Fn(f32) -> f64) -> Vec<(u32, f32)> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if known < ids.len() && known > 0 {
        let by_logit = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
        ids.select_nth_unstable_by(known - 1, by_logit);
    }
    ids.truncate(known);
    ids.sort_unstable();
    ids.into_iter().map(|id| (id, probability(logits[id as usize]) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_tokens_come_in_order() {
        let logits = [0.5, 3.0, -1.0, 3.0, 2.0];
        let ids =
            |known| likeliest(&logits, known, f64::from).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(
            (ids(0), ids(1), ids(2), ids(3), ids(5)),
            (vec![], vec![1], vec![1, 3], vec![1, 3, 4], vec![0, 1, 2, 3, 4])
        );
    }
}
