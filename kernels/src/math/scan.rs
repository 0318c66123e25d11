//! Linear recurrences over the tokens of a text with a matrix as their state: gated delta rule and state-space duality.
//!
//! A head has the state S `[key][value]`, zeros before the text. For each token, with its query q and key k `[key]`, value v
//! `[value]`, decay g and strength b:
//!
//! ```text
//! S <- g S
//! d  = b (v - S' k)   by the delta rule, otherwise   d = b v
//! S <- S + k d'
//! out = S' q
//! ```
//!
//! Sources: Yang, Kautz and Hatamizadeh, Gated Delta Networks, 2024; Dao and Gu, Transformers are SSMs, 2024. The sums run
//! over the rows of the state in their order, so that a text gives the same bits however it is cut.

use crate::isa::per_isa;

/// The shape of a head's recurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Width of queries and keys.
    pub key: usize,
    /// Width of values.
    pub value: usize,
    /// True if the delta rule subtracts from each value what the state has for its key.
    pub delta: bool,
}

/// What a head's recurrence reads, token by token.
#[derive(Debug, Clone, Copy)]
pub struct ScanInput<'a> {
    /// Queries, `[tokens][key]`.
    pub queries: &'a [f32],
    /// Keys, `[tokens][key]`.
    pub keys: &'a [f32],
    /// Values, `[tokens][value]`.
    pub values: &'a [f32],
    /// Factors of the state, `[tokens]`.
    pub decays: &'a [f32],
    /// Factors of what is added to the state, `[tokens]`.
    pub strengths: &'a [f32],
}

/// One token's part of a [`ScanInput`].
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
    pub decay: f32,
    pub strength: f32,
}

impl Scan {
    /// Returns the number of elements of the state.
    pub fn state(&self) -> usize {
        self.key * self.value
    }

    /// Runs the recurrence over a text or a part of one: `state` `[key][value]` is that before the first token and becomes
    /// that after the last; `out` is `[tokens][value]`.
    pub fn run(&self, out: &mut [f32], state: &mut [f32], input: &ScanInput) {
        self.check(out.len(), state.len(), input);
        run(*self, out, state, input);
    }

    /// Checks the lengths of the buffers.
    #[inline(always)]
    pub(super) fn check(&self, out: usize, state: usize, input: &ScanInput) {
        let tokens = input.decays.len();
        let lengths = [input.queries.len(), input.keys.len(), input.values.len(), input.strengths.len()];
        let wanted = [tokens * self.key, tokens * self.key, tokens * self.value, tokens];
        assert!(lengths == wanted, "{lengths:?} elements are not those of {tokens} tokens of {self:?}");
        assert!(out == tokens * self.value && state == self.state(), "{out} outputs or {state} of the state");
    }
}

impl<'a> ScanInput<'a> {
    /// Returns the part of token `t`.
    #[inline(always)]
    pub(super) fn token(&self, scan: Scan, t: usize) -> Token<'a> {
        Token {
            query: &self.queries[t * scan.key..][..scan.key],
            key: &self.keys[t * scan.key..][..scan.key],
            value: &self.values[t * scan.value..][..scan.value],
            decay: self.decays[t],
            strength: self.strengths[t],
        }
    }
}

per_isa! {
    fn run, run_on(scan: Scan, out: &mut [f32], state: &mut [f32], input: &ScanInput) {
        let mut added = vec![0.0; scan.value];
        for (t, out) in out.chunks_exact_mut(scan.value).enumerate() {
            step(scan, out, state, &mut added, input.token(scan, t));
        }
    }
}

/// Takes `state` from one token to the next and fills `out` with the token's output; `added` becomes d, all `[value]`.
#[inline(always)]
pub(super) fn step(scan: Scan, out: &mut [f32], state: &mut [f32], added: &mut [f32], token: Token) {
    let Token { query, key, value, decay, strength } = token;
    added.fill(0.0);
    for (row, key) in state.chunks_exact_mut(scan.value).zip(key) {
        row.iter_mut().for_each(|s| *s *= decay);
        if scan.delta {
            added.iter_mut().zip(row).for_each(|(sum, s)| *sum += key * *s);
        }
    }
    added.iter_mut().zip(value).for_each(|(d, v)| *d = strength * (v - *d));
    out.fill(0.0);
    for ((row, key), query) in state.chunks_exact_mut(scan.value).zip(key).zip(query) {
        for ((s, d), out) in row.iter_mut().zip(&*added).zip(&mut *out) {
            *s += key * d;
            *out += query * *s;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::math::tests::{assert_close, bits, noise};

    /// The recurrence by its definition: inputs are queries, keys, values, decays and strengths.
    pub(in crate::math) fn definition(scan: Scan, x: [&[f64]; 5]) -> Vec<f64> {
        let [queries, keys, values, decays, strengths] = x;
        let mut state = vec![vec![0.0; scan.value]; scan.key];
        let mut out = Vec::new();
        for t in 0..decays.len() {
            let [q, k] = [queries, keys].map(|x| &x[t * scan.key..][..scan.key]);
            state.iter_mut().flatten().for_each(|s| *s *= decays[t]);
            let against = |weights: &[f64], state: &[Vec<f64>], column: usize| -> f64 {
                weights.iter().zip(state).map(|(w, row)| w * row[column]).sum()
            };
            let added: Vec<f64> = (0..scan.value)
                .map(|i| {
                    let known = if scan.delta { against(k, &state, i) } else { 0.0 };
                    strengths[t] * (values[t * scan.value + i] - known)
                })
                .collect();
            for (row, k) in state.iter_mut().zip(k) {
                row.iter_mut().zip(&added).for_each(|(s, d)| *s += k * d);
            }
            out.extend((0..scan.value).map(|i| against(q, &state, i)));
        }
        out
    }

    /// Inputs of `tokens` tokens: keys short enough that the delta rule is stable, decays and strengths in 0..1.
    fn input(scan: Scan, tokens: usize) -> [Vec<f32>; 5] {
        let short = |x: Vec<f32>| -> Vec<f32> { x.iter().map(|x| x / (scan.key as f32).sqrt()).collect() };
        let part = |x: Vec<f32>| -> Vec<f32> { x.iter().map(|x| 0.5 + 0.5 * x).collect() };
        let keys = tokens * scan.key;
        [
            noise(keys, 1),
            short(noise(keys, 2)),
            noise(tokens * scan.value, 3),
            part(noise(tokens, 4)),
            part(noise(tokens, 5)),
        ]
    }

    fn of(x: &[Vec<f32>; 5]) -> ScanInput<'_> {
        let [queries, keys, values, decays, strengths] = x;
        ScanInput { queries, keys, values, decays, strengths }
    }

    #[test]
    fn equals_the_definition_however_a_text_is_cut() {
        for delta in [false, true] {
            let scan = Scan { key: 6, value: 21, delta };
            let x = input(scan, 40);
            let mut state = vec![0.0; scan.state()];
            let mut out = vec![f32::NAN; 40 * scan.value];
            scan.run(&mut out, &mut state, &of(&x));
            let wide = x.each_ref().map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            let exact = definition(scan, wide.each_ref().map(Vec::as_slice));
            assert_close(&out, |i| exact[i], 1e-3);
            let mut cut = vec![0.0; scan.state()];
            for (from, to) in [(0, 7), (7, 8), (8, 40)] {
                let part = |x: &[f32], width: usize| x[from * width..to * width].to_vec();
                let widths = [scan.key, scan.key, scan.value, 1, 1];
                let parts = [0, 1, 2, 3, 4].map(|i| part(&x[i], widths[i]));
                let mut piece = vec![f32::NAN; (to - from) * scan.value];
                scan.run(&mut piece, &mut cut, &of(&parts));
                assert_eq!(piece, part(&out, scan.value));
            }
            assert_eq!(cut, state);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let scan = Scan { key: 16, value: 35, delta: true };
        let x = input(scan, 11);
        let run = |isa| {
            let (mut out, mut state) = (vec![0.0; 11 * scan.value], noise(scan.state(), 6));
            run_on(isa, scan, &mut out, &mut state, &of(&x));
            (bits(&out), bits(&state))
        };
        for isa in Isa::available() {
            assert!(run(isa) == run(Isa::available()[0]), "{isa:?}");
        }
    }
}
