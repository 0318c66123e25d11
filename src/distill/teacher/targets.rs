//! The teacher's distributions after the tokens of some chunks, in the student's tokens.

use half::f16;
use kquant_formats::targets::Rows;

use crate::model::backward::{Teacher, TeacherTarget};

/// A distribution for each token of some chunks.
///
/// Tokens that the student lacks are not known one by one: their probability goes to the rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Targets {
    /// End in `ids` of what belongs to each token, `[tokens]`.
    ends: Vec<usize>,
    /// Rising for each token.
    ids: Vec<u32>,
    /// Probabilities of `ids`.
    p: Vec<f32>,
    /// Probability of all other tokens together, `[tokens]`.
    rest: Vec<f32>,
    /// Temperature of the loss.
    temperature: f32,
}

/// The student's number of each of the teacher's tokens.
#[derive(Debug, Clone, Default)]
pub struct StudentTokens(Option<Vec<u32>>);

/// The number of a token that the student lacks.
const LOST: u32 = u32::MAX;

impl StudentTokens {
    /// Creates the way back from `ids` `[student's vocabulary]`, the teacher's number of each of the student's tokens; `None` if the
    /// numbers are the same.
    pub fn new(ids: Option<&[u32]>) -> Self {
        Self(ids.map(|ids| {
            let size = ids.iter().max().map_or(0, |&id| id as usize + 1);
            let mut all = vec![LOST; size];
            ids.iter().zip(0..).for_each(|(&id, own)| all[id as usize] = own);
            all
        }))
    }

    /// Returns the student's number of the teacher's token `id`, if it has that token.
    pub fn of(&self, id: u32) -> Option<u32> {
        match &self.0 {
            None => Some(id),
            Some(all) => all.get(id as usize).copied().filter(|&own| own != LOST),
        }
    }
}

impl Targets {
    /// Creates targets without tokens for a loss at `temperature`.
    pub fn new(temperature: f32) -> Self {
        Self { temperature, ..Self::default() }
    }

    /// Appends the predictions `rows`, of which `top` tokens are known after each token.
    pub fn add(&mut self, rows: &Rows, top: usize, student: &StudentTokens) {
        for token in 0..rows.rest.len() {
            let known = token * top..(token + 1) * top;
            let (mut own, mut lost) = (Vec::with_capacity(top), 0.0);
            for (&id, &bits) in rows.ids[known.clone()].iter().zip(&rows.log_probabilities[known]) {
                let p = f16::from_bits(bits).to_f64().exp();
                match student.of(id) {
                    Some(id) => own.push((id, p as f32)),
                    None => lost += p,
                }
            }
            own.sort_unstable_by_key(|&(id, _)| id);
            self.ids.extend(own.iter().map(|&(id, _)| id));
            self.p.extend(own.iter().map(|&(_, p)| p));
            self.ends.push(self.ids.len());
            self.rest.push((f64::from(rows.rest[token]) + lost).min(1.0) as f32);
        }
    }

    /// Returns all numbers as little-endian bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let ids = self.ids.iter().flat_map(|id| id.to_le_bytes());
        ids.chain(self.p.iter().chain(&self.rest).flat_map(|p| p.to_le_bytes())).collect()
    }
}

impl Teacher for Targets {
    fn target(&self, token: usize) -> TeacherTarget<'_> {
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range = start..self.ends[token];
        let (ids, p) = (&self.ids[range.clone()], &self.p[range]);
        TeacherTarget { ids, p, rest: self.rest[token], temperature: self.temperature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(p: f32) -> u16 {
        f16::from_f32(p.ln()).to_bits()
    }

    #[test]
    fn what_the_student_lacks_goes_to_the_rest() {
        let rows = Rows {
            ids: vec![1, 4, 9, 0, 1, 4],
            log_probabilities: [0.5, 0.25, 0.125, 0.5, 0.25, 0.125].map(bits).to_vec(),
            rest: vec![0.125, 0.125],
        };
        // The student's tokens are the teacher's 4, 1 and 7.
        let mut targets = Targets::new(1.0);
        targets.add(&rows, 3, &StudentTokens::new(Some(&[4, 1, 7])));
        let first = targets.target(0);
        assert_eq!(first.ids, [0, 1]);
        assert!((first.p[0] - 0.25).abs() < 1e-3 && (first.p[1] - 0.5).abs() < 1e-3);
        assert!((first.rest - 0.25).abs() < 1e-3, "{}", first.rest);
        let second = targets.target(1);
        assert_eq!(second.ids, [0, 1]);
        assert!((second.rest - 0.625).abs() < 1e-3, "{}", second.rest);

        let mut same = Targets::new(1.0);
        same.add(&rows, 3, &StudentTokens::default());
        assert_eq!((same.target(0).ids, same.target(0).rest), (&[1, 4, 9][..], 0.125));
    }
}
