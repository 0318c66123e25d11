//! Comparison of a model with a base that has more tokens than the model, as the original of a trimmed vocabulary has.

use super::softmax::max;
use super::{Normalizer, RowError, Side, TokenStats, compare_rows};

/// Compares the logits `row` `[vocabulary]` with those of a base of a larger vocabulary, `base` `[vocabulary of the base]`,
/// at a position that token `target` of the model follows. `ids` `[vocabulary]` holds the base's id of each token of the
/// model, and no id twice; `kept` is a buffer.
///
/// With the base's probabilities `p`, the model's `q`, and the sum `s` of `p` over the tokens that both have, the divergence
/// is `sum over these of (p / s) * ln((p / s) / q) - ln s`: that of the distributions over the common tokens, and the cost of
/// giving nothing to the others. A model that differs from its base by lost tokens alone has a divergence of `-ln s`. The
/// probability of the target under the base is among all tokens of the base, and the likeliest token of the base may be a
/// lost one, which the model cannot predict.
///
/// # Errors
/// Fails as [`compare_rows`] does, and when the base has no logit for one of `ids`.
pub fn compare_kept_rows(
    base: &[f32],
    ids: &[u32],
    kept: &mut Vec<f32>,
    row: &[f32],
    target: u32,
) -> Result<TokenStats, RowError> {
    gather(base, ids, kept)?;
    let among_kept = compare_rows(kept, row, target)?;
    let all = Normalizer::of(base).map_err(|_| RowError::NotFinite(Side::Base))?;
    let logit = usize::try_from(target).ok().and_then(|target| kept.get(target));
    let logit = logit.ok_or(RowError::Token { token: target, vocabulary: kept.len() })?;
    let base_nll = all.nll(*logit);
    // The two probabilities of one token, among all and among the common ones, differ by the factor s. Rounding alone makes
    // s more than 1.
    let lost = (base_nll - among_kept.base_nll).max(0.0);
    let same_top = among_kept.same_top && max(kept) == all.max;
    Ok(TokenStats { base_nll, kl: among_kept.kl + lost, same_top, ..among_kept })
}

/// Takes the logits of the tokens `ids` out of `base`.
fn gather(base: &[f32], ids: &[u32], kept: &mut Vec<f32>) -> Result<(), RowError> {
    kept.clear();
    for &id in ids {
        let logit = usize::try_from(id).ok().and_then(|id| base.get(id));
        kept.push(*logit.ok_or(RowError::Token { token: id, vocabulary: base.len() })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 211.0 - 4.0).collect()
    }

    fn probabilities(row: &[f32]) -> Vec<f64> {
        let powers: Vec<f64> = row.iter().map(|&v| f64::from(v).exp()).collect();
        let total: f64 = powers.iter().sum();
        powers.iter().map(|power| power / total).collect()
    }

    /// The definition, in f64: the divergence of the base over all its tokens, where the model gives the lost ones nothing
    /// and they are counted by their sum alone.
    fn by_definition(base: &[f32], ids: &[u32], row: &[f32]) -> (f64, f64) {
        let (p, q) = (probabilities(base), probabilities(row));
        let s: f64 = ids.iter().map(|&id| p[id as usize]).sum();
        let term = |(&id, q): (&u32, &f64)| {
            let p = p[id as usize] / s;
            p * (p / q).ln()
        };
        (ids.iter().zip(&q).map(term).sum::<f64>() - s.ln(), s)
    }

    #[test]
    fn the_divergence_is_that_of_the_definition() {
        let base = logits(1500, 1);
        for (step, seed) in [(1, 2), (2, 3), (7, 4), (700, 5)] {
            // Not in the base's order.
            let ids: Vec<u32> = (0..1500).step_by(step).rev().collect();
            let row = logits(ids.len(), seed);
            let stats = compare_kept_rows(&base, &ids, &mut Vec::new(), &row, 1).unwrap();
            let (kl, _) = by_definition(&base, &ids, &row);
            assert!((stats.kl - kl).abs() < 1e-6 * kl, "{step}: {} {kl}", stats.kl);
            let p = probabilities(&base)[ids[1] as usize];
            assert!((stats.base_nll + p.ln()).abs() < 1e-6, "{step}: {} {}", stats.base_nll, -p.ln());
            assert_eq!(stats.nll, super::super::score_row(&row, 1).unwrap());
        }
    }

    #[test]
    fn lost_tokens_alone_cost_their_share() {
        let base = logits(1500, 6);
        let ids: Vec<u32> = (0..1500).filter(|id| id % 3 > 0).collect();
        // Logits may be shifted: the softmax is the same.
        let row: Vec<f32> = ids.iter().map(|&id| base[id as usize] + 2.0).collect();
        let stats = compare_kept_rows(&base, &ids, &mut Vec::new(), &row, 0).unwrap();
        let (_, s) = by_definition(&base, &ids, &row);
        assert!(s < 0.9 && (stats.kl + s.ln()).abs() < 1e-6, "{} {}", stats.kl, -s.ln());
        assert!((stats.base_nll - stats.nll + s.ln()).abs() < 1e-6, "{stats:?}");
    }

    #[test]
    fn without_lost_tokens_it_is_the_usual_comparison() {
        let (base, row) = (logits(600, 7), logits(600, 8));
        let ids: Vec<u32> = (0..600).collect();
        let kept = compare_kept_rows(&base, &ids, &mut Vec::new(), &row, 9).unwrap();
        assert_eq!(kept, compare_rows(&base, &row, 9).unwrap());
    }

    #[test]
    fn a_lost_top_token_cannot_be_predicted() {
        let base = [3.0, 1.0, 2.0];
        let same_top = |ids: &[u32], row: &[f32]| {
            compare_kept_rows(&base, ids, &mut Vec::new(), row, 0).unwrap().same_top
        };
        assert!(same_top(&[2, 0], &[0.0, 1.0]) && !same_top(&[2, 0], &[1.0, 0.0]));
        assert!(!same_top(&[1, 2], &[0.0, 1.0]));
    }

    #[test]
    fn tokens_and_numbers_that_are_not_there_are_refused() {
        let compare = |base: &[f32], ids: &[u32], target| {
            compare_kept_rows(base, ids, &mut vec![7.0; 9], &[1.0, 2.0], target).unwrap_err()
        };
        assert_eq!(compare(&[1.0; 3], &[0, 3], 0), RowError::Token { token: 3, vocabulary: 3 });
        assert_eq!(compare(&[1.0; 3], &[0, 1], 2), RowError::Token { token: 2, vocabulary: 2 });
        assert_eq!(compare(&[1.0; 3], &[0], 0), RowError::Vocabulary { model: 2, base: 1 });
        assert_eq!(compare(&[1.0, 1.0, f32::NAN], &[0, 1], 0), RowError::NotFinite(Side::Base));
    }
}
