//! Functions from two rows of logits to the numbers of one token. They are pure and can run on any thread.

use super::softmax::{BLOCK, Normalizer, exponentials, max, sum};
use super::{RowError, Side};

/// Log-probabilities of a logits file at or below this, in nats, are left out, as in llama-perplexity: the file's codes end
/// there.
const LOWEST_LOG_PROB: f32 = -16.0;

/// Distance in nats from the best token's log-probability to the lowest one in a logits file.
const RANGE: f32 = 16.0;

/// Most that rounding to 16 bits may add to the sum of a row's probabilities. A step of a code is 0.00025 nats.
const TOTAL_MARGIN: f32 = 0.01;

/// The predictions of one token by two models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenStats {
    /// Negative log-probability of the token that followed under the model, in nats.
    pub nll: f64,
    /// Negative log-probability of the same token under the base model, in nats.
    pub base_nll: f64,
    /// Divergence of the model from the base, `sum of p_base * (ln p_base - ln p_model)`, in nats. It can be slightly
    /// negative if the base came from a logits file.
    pub kl: f64,
    /// True if both models predict the same likeliest token.
    pub same_top: bool,
}

impl TokenStats {
    /// Returns the probability of the token under the model minus that under the base.
    pub fn delta_p(&self) -> f64 {
        (-self.nll).exp() - (-self.base_nll).exp()
    }

    /// Checks that all numbers are finite.
    fn checked(self) -> Result<Self, RowError> {
        if !self.base_nll.is_finite() {
            return Err(RowError::NotFinite(Side::Base));
        }
        // An infinite divergence comes from a logit of minus infinity where the base has a finite one.
        if !(self.nll.is_finite() && self.kl.is_finite()) {
            return Err(RowError::NotFinite(Side::Model));
        }
        Ok(self)
    }
}

/// Returns the negative log-probability, in nats, of token `target` under the logits `row` `[vocabulary]`.
///
/// # Errors
/// Fails when the row has no such token, or holds NaN or infinities.
pub fn score_row(row: &[f32], target: u32) -> Result<f64, RowError> {
    let nll = Normalizer::of(row)?.nll(at(row, target)?);
    if nll.is_finite() { Ok(nll) } else { Err(RowError::NotFinite(Side::Model)) }
}

/// Compares two rows of logits, `base` `[vocabulary]` and `row` `[vocabulary]`, at a position that token `target` follows.
///
/// Every row is read twice, and every logit is exponentiated once. With the distances `b` and `r` of logits from the rows'
/// maxima, and the sums `B` and `R` of the exponentials of these, the divergence is
/// `sum of exp(b) * (b - r) / B - ln B + ln R`.
///
/// # Errors
/// Fails when the lengths differ, no logit belongs to `target`, or a row holds NaN or infinities. Minus infinity, which
/// rules a token out, is accepted unless the model rules out a token that the base or the text does not.
pub fn compare_rows(base: &[f32], row: &[f32], target: u32) -> Result<TokenStats, RowError> {
    check_lengths(base, row)?;
    let (base_logit, logit) = (at(base, target)?, at(row, target)?);
    let (base_max, row_max) = (max(base), max(row));
    let shift = f64::from(base_max) - f64::from(row_max);
    let (mut base_powers, mut powers, mut terms) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
    let (mut base_sum, mut row_sum, mut weighted) = (0.0, 0.0, 0.0);
    for (base, row) in base.chunks(BLOCK).zip(row.chunks(BLOCK)) {
        let base_powers = exponentials(base, base_max, &mut base_powers);
        base_sum += sum(base_powers);
        row_sum += sum(exponentials(row, row_max, &mut powers));
        for (((term, &power), &b), &r) in terms.iter_mut().zip(base_powers).zip(base).zip(row) {
            let distance = f64::from(b) - f64::from(r) - shift;
            // A term of zero probability is zero even if the distance is infinite.
            *term = if power > 0.0 { f64::from(power) * distance } else { 0.0 };
        }
        weighted += sum(terms.get(..base.len()).unwrap_or(&terms));
    }
    let base_norm = Normalizer::new(base_max, base_sum, Side::Base)?;
    let norm = Normalizer::new(row_max, row_sum, Side::Model)?;
    let kl = weighted / base_sum - base_norm.log_sum_exp + norm.log_sum_exp;
    let stats = TokenStats {
        nll: norm.nll(logit),
        base_nll: base_norm.nll(base_logit),
        kl,
        same_top: first(base, base_max) == first(row, row_max),
    };
    // Exact divergences are not negative; rounding alone gives values below zero.
    stats.checked().map(|stats| TokenStats { kl: kl.max(0.0), ..stats })
}

/// Compares the logits `row` `[vocabulary]` with a row of a logits file, `base` `[vocabulary]` log-probabilities in nats, at
/// a position that token `target` follows.
///
/// As in llama-perplexity, the base's probabilities are used as they are, though rounding keeps their sum from being 1, and
/// those at or below `exp(-16)` do not count.
///
/// # Errors
/// Fails when the lengths differ, no logit belongs to `target`, a row holds NaN or infinities, or the base's probabilities
/// do not add up to about 1.
pub fn compare_log_probs(base: &[f32], row: &[f32], target: u32) -> Result<TokenStats, RowError> {
    check_lengths(base, row)?;
    let (log_prob, logit) = (at(base, target)?, at(row, target)?);
    let norm = Normalizer::of(row)?;
    let log_total = f64::from(norm.max) + norm.log_sum_exp;
    let (mut powers, mut terms) = ([0.0; BLOCK], [0.0; BLOCK]);
    let (mut kl, mut total) = (0.0, 0.0);
    for (base, row) in base.chunks(BLOCK).zip(row.chunks(BLOCK)) {
        let probabilities = exponentials(base, 0.0, &mut powers);
        total += sum(probabilities);
        for (((term, &p), &log_p), &r) in terms.iter_mut().zip(probabilities).zip(base).zip(row) {
            let distance = f64::from(log_p) - (f64::from(r) - log_total);
            *term = if log_p > LOWEST_LOG_PROB { f64::from(p) * distance } else { 0.0 };
        }
        kl += sum(terms.get(..base.len()).unwrap_or(&terms));
    }
    let top = first(base, max(base));
    let same_top = top == first(row, norm.max);
    let stats =
        TokenStats { nll: norm.nll(logit), base_nll: -f64::from(log_prob), kl, same_top }.checked()?;
    check_total(base, total, top)?;
    Ok(stats)
}

/// Checks that the probabilities of a row of a logits file, whose sum is `total`, add up to about 1. Probabilities below the
/// range of the codes are recorded as the lowest code, and so are slightly too high.
fn check_total(base: &[f32], total: f64, top: Option<usize>) -> Result<(), RowError> {
    let lowest = base.iter().copied().fold(f32::INFINITY, f32::min);
    let beyond = if max(base) - lowest < RANGE - TOTAL_MARGIN {
        0.0
    } else {
        base.iter().filter(|&&log_prob| log_prob == lowest).count() as f64 * f64::from(lowest).exp()
    };
    let margin = f64::from(TOTAL_MARGIN);
    if total >= 1.0 - margin && total - beyond <= 1.0 + margin {
        return Ok(());
    }
    Err(RowError::Total { total: total.to_string(), top: top.unwrap_or_default() })
}

fn check_lengths(base: &[f32], row: &[f32]) -> Result<(), RowError> {
    if base.len() == row.len() {
        Ok(())
    } else {
        Err(RowError::Vocabulary { model: row.len(), base: base.len() })
    }
}

/// Returns the logit of `token`.
fn at(row: &[f32], token: u32) -> Result<f32, RowError> {
    let logit = usize::try_from(token).ok().and_then(|i| row.get(i));
    logit.copied().ok_or(RowError::Token { token, vocabulary: row.len() })
}

/// Returns the index at which `value` stands first. Whole blocks are tested before single values, since a loop without an
/// early exit can use vectors.
fn first(row: &[f32], value: f32) -> Option<usize> {
    let holds = |block: &[f32]| block.iter().fold(false, |found, &v| found | (v == value));
    let start = BLOCK * row.chunks(BLOCK).position(holds)?;
    row.get(start..)?.iter().position(|&v| v == value).map(|i| start + i)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f32 = f32::NEG_INFINITY;

    #[test]
    fn equal_rows_do_not_diverge() {
        let row: Vec<f32> = (0..2000).map(|i| (i * 7919 % 2003) as f32 / 97.0).collect();
        let shifted: Vec<f32> = row.iter().map(|v| v + 64.0).collect();
        let same = compare_rows(&row, &row, 5).unwrap();
        assert_eq!((same.kl, same.delta_p(), same.same_top), (0.0, 0.0, true));
        assert_eq!(same.nll, score_row(&row, 5).unwrap());
        let stats = compare_rows(&row, &shifted, 5).unwrap();
        assert!(stats.kl < 1e-6 && stats.delta_p().abs() < 1e-6, "{stats:?}");
    }

    #[test]
    fn two_tokens_by_hand() {
        // For p = (3/4, 1/4) and q = (1/2, 1/2), the divergence is 3/4 ln(3/2) + 1/4 ln(1/2).
        let base = [3f32.ln(), 0.0];
        let stats = compare_rows(&base, &[7.0, 7.0], 1).unwrap();
        let kl = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((stats.kl - kl).abs() < 1e-7 && (stats.delta_p() - 0.25).abs() < 1e-7, "{stats:?}");
        assert!(
            (stats.nll - 2f64.ln()).abs() < 1e-7 && (stats.base_nll - 4f64.ln()).abs() < 1e-7,
            "{stats:?}"
        );
        let log_probs = [0.75f32.ln(), 0.25f32.ln()];
        let filed = compare_log_probs(&log_probs, &[7.0, 7.0], 1).unwrap();
        assert!((filed.kl - kl).abs() < 1e-7 && (filed.base_nll - stats.base_nll).abs() < 1e-7, "{filed:?}");
    }

    #[test]
    fn of_equally_likely_tokens_the_first_is_the_top() {
        assert!(compare_rows(&[1.0, 1.0, 0.0], &[2.0, 1.0, 2.0], 0).unwrap().same_top);
        assert!(!compare_rows(&[1.0, 1.0, 0.0], &[0.0, 1.0, 1.0], 0).unwrap().same_top);
        assert!(!compare_log_probs(&[-0.7, -0.7], &[0.0, 1.0], 0).unwrap().same_top);
        let mut long = vec![0.0; 3 * BLOCK + 7];
        long[2 * BLOCK + 5] = 1.0;
        let mut later = long.clone();
        later[2 * BLOCK + 6] = 1.0;
        assert!(compare_rows(&long, &later, 0).unwrap().same_top);
        later[5] = 1.0;
        assert!(!compare_rows(&long, &later, 0).unwrap().same_top);
    }

    #[test]
    fn recorded_probabilities_add_up_to_one() {
        let total = |base: &[f32]| match compare_log_probs(base, &vec![0.0; base.len()], 0) {
            Ok(_) => None,
            Err(RowError::Total { total, .. }) => Some(total.parse::<f64>().unwrap()),
            other => panic!("{other:?}"),
        };
        let near = |base: &[f32], wanted: f64| total(base).is_some_and(|total| (total - wanted).abs() < 1e-6);
        assert!(near(&[0.5f32.ln(); 3], 1.5) && near(&[0.25f32.ln(), 0.5f32.ln()], 0.75));
        assert!(near(&[0.0, 0.0], 2.0) && near(&[-10.0; 4], 4.0 * (-10f64).exp()));
        assert_eq!(total(&[0.5f32.ln() + 0.005; 2]), None);
        // In a large vocabulary whose unlikely tokens all have the last code, the sum is 1 + 2^18 exp(-16) = 1.0295.
        let mut long = vec![-16.0; 1 << 18];
        long[0] = 0.0;
        assert_eq!(total(&long), None);
        long[1..600].fill(-10.0);
        assert!(total(&long).is_some());
    }

    #[test]
    fn what_a_file_cannot_tell_does_not_count() {
        let stats = compare_log_probs(&[0.0, -16.0, NONE], &[0.0, NONE, NONE], 0).unwrap();
        assert_eq!((stats.kl, stats.nll), (0.0, 0.0));
    }

    #[test]
    fn tokens_ruled_out_by_both_do_not_count() {
        let masked = compare_rows(&[1.0, NONE, 0.5], &[0.5, NONE, 1.0], 0).unwrap();
        let bare = compare_rows(&[1.0, 0.5], &[0.5, 1.0], 0).unwrap();
        assert_eq!(masked, bare);
        let by_model = compare_rows(&[1.0, 0.5], &[1.0, NONE], 0);
        assert_eq!(by_model, Err(RowError::NotFinite(Side::Model)));
        let by_base = compare_rows(&[1.0, NONE], &[1.0, 0.5], 1);
        assert_eq!(by_base, Err(RowError::NotFinite(Side::Base)));
        assert_eq!(score_row(&[1.0, NONE], 1), Err(RowError::NotFinite(Side::Model)));
    }

    #[test]
    fn faults_name_the_side() {
        let (good, bad) = ([1.0, 2.0], [1.0, f32::NAN]);
        assert_eq!(compare_rows(&bad, &good, 0), Err(RowError::NotFinite(Side::Base)));
        assert_eq!(compare_rows(&good, &bad, 0), Err(RowError::NotFinite(Side::Model)));
        assert_eq!(compare_log_probs(&bad, &good, 1), Err(RowError::NotFinite(Side::Base)));
        assert_eq!(compare_rows(&good, &good, 2), Err(RowError::Token { token: 2, vocabulary: 2 }));
        assert_eq!(compare_rows(&good, &[1.0], 0), Err(RowError::Vocabulary { model: 1, base: 2 }));
        assert_eq!(score_row(&good, u32::MAX), Err(RowError::Token { token: u32::MAX, vocabulary: 2 }));
    }
}
