//! Causal attention with grouped queries.

use super::softmax::softmax_on;
use crate::isa::Isa;
use crate::linalg::{View, ViewMut, gemm_on};

/// Queries scored at a time. A block sees the keys up to its last query: the smaller, the fewer are scored in vain; the
/// larger, the better the products run.
const BLOCK: usize = 128;

/// The shape of multi-head attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Heads of the queries and of the output.
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`; query head h reads head `h * kv_heads / heads`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub dim: usize,
    /// What the scores are multiplied by, mostly `1 / sqrt(dim)`.
    pub scale: f32,
}

/// Memory that calls share.
#[derive(Debug, Default)]
pub struct Scratch {
    scores: Vec<f32>,
}

impl Heads {
    /// Attends with `q` `[tokens][heads][dim]` to `k` and `v` `[keys][kv_heads][dim]` and writes `out`
    /// `[tokens][heads][dim]`. The queries belong to the last `tokens` of the keys: query i sees the keys up to
    /// `keys - tokens + i`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit or there are more queries than keys.
    pub fn attend(&self, out: &mut [f32], q: &[f32], k: &[f32], v: &[f32], scratch: &mut Scratch) {
        self.attend_on(Isa::current(), out, q, [k, v], scratch);
    }

    fn attend_on(&self, isa: Isa, out: &mut [f32], q: &[f32], [k, v]: [&[f32]; 2], scratch: &mut Scratch) {
        let (width, kv_width) = (self.heads * self.dim, self.kv_heads * self.dim);
        if width == 0 || q.is_empty() {
            return;
        }
        assert!(kv_width > 0 && self.heads.is_multiple_of(self.kv_heads), "heads do not fit: {self:?}");
        let (tokens, keys) = (q.len() / width, k.len() / kv_width);
        assert!(
            tokens * width == q.len()
                && keys * kv_width == k.len()
                && out.len() == q.len()
                && v.len() == k.len(),
            "queries, keys, values and output do not fit {self:?}"
        );
        assert!(tokens <= keys, "{tokens} queries of {keys} keys");
        for first in (0..tokens).step_by(BLOCK) {
            let queries = BLOCK.min(tokens - first);
            let seen = keys - tokens + first + queries;
            let rows = first * width..(first + queries) * width;
            for head in 0..self.heads {
                let kv_head = head * self.kv_heads / self.heads;
                let block = Block { isa, queries, seen, dim: self.dim, width, kv_width };
                let at = kv_head * self.dim;
                let (q, out) =
                    (&q[rows.clone()][head * self.dim..], &mut out[rows.clone()][head * self.dim..]);
                block.attend(out, q, &k[at..], &v[at..], self.scale, &mut scratch.scores);
            }
        }
    }
}

/// Consecutive queries of one head and the keys that the last of them sees.
struct Block {
    isa: Isa,
    queries: usize,
    seen: usize,
    dim: usize,
    /// From one query to the next.
    width: usize,
    /// From one key to the next.
    kv_width: usize,
}

impl Block {
    fn attend(&self, out: &mut [f32], q: &[f32], k: &[f32], v: &[f32], scale: f32, scores: &mut Vec<f32>) {
        let &Self { isa, queries, seen, dim, width, kv_width } = self;
        scores.resize(queries * seen, 0.0);
        let q = View::new(q, queries, dim, width, 1);
        let k = View::new(k, seen, dim, kv_width, 1);
        gemm_on(isa, ViewMut::row_major(scores, seen), q, k.transposed(), scale, 0.0);
        for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
            let (past, future) = row.split_at_mut(seen - queries + i + 1);
            softmax_on(isa, past);
            future.fill(0.0);
        }
        let out = ViewMut::new(out, queries, dim, width, 1);
        gemm_on(isa, out, View::row_major(scores, seen), View::new(v, seen, dim, kv_width, 1), 1.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::tests::{bits, noise};

    /// Attention of one query, by its definition, in f64.
    fn query(shape: &Heads, q: &[f32], k: &[f32], v: &[f32], seen: usize, head: usize) -> Vec<f64> {
        let Heads { heads, kv_heads, dim, scale } = *shape;
        let row = |x: &[f32], key: usize, i: usize| {
            f64::from(x[(key * kv_heads + head / (heads / kv_heads)) * dim + i])
        };
        let score = |key| -> f64 { (0..dim).map(|i| f64::from(q[head * dim + i]) * row(k, key, i)).sum() };
        let weights: Vec<f64> = (0..seen).map(|key| (f64::from(scale) * score(key)).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..dim)
            .map(|i| weights.iter().enumerate().map(|(key, w)| w * row(v, key, i)).sum::<f64>() / total)
            .collect()
    }

    fn check(shape: Heads, tokens: usize, keys: usize) {
        let Heads { heads, kv_heads, dim, .. } = shape;
        let q = noise(tokens * heads * dim, 1);
        let (k, v) = (noise(keys * kv_heads * dim, 2), noise(keys * kv_heads * dim, 3));
        let mut out = vec![f32::NAN; q.len()];
        shape.attend(&mut out, &q, &k, &v, &mut Scratch::default());
        for (token, (out, q)) in out.chunks(heads * dim).zip(q.chunks(heads * dim)).enumerate() {
            for (head, out) in out.chunks(dim).enumerate() {
                let exact = query(&shape, q, &k, &v, keys - tokens + token + 1, head);
                for (out, exact) in out.iter().zip(exact) {
                    assert!(
                        (f64::from(*out) - exact).abs() < 2e-6,
                        "token {token}, head {head}: {out} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn equals_the_definition() {
        let shape = Heads { heads: 4, kv_heads: 2, dim: 8, scale: 0.7 };
        check(shape, 1, 1);
        check(shape, 20, 20);
        check(shape, 7, 30);
        check(shape, 1, 300);
        check(Heads { kv_heads: 4, ..shape }, BLOCK + 5, BLOCK + 9);
        check(Heads { kv_heads: 1, ..shape }, 2 * BLOCK, 2 * BLOCK);
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let shape = Heads { heads: 6, kv_heads: 2, dim: 12, scale: 0.3 };
        let (tokens, keys) = (BLOCK + 7, BLOCK + 40);
        let q = noise(tokens * 6 * 12, 1);
        let (k, v) = (noise(keys * 2 * 12, 2), noise(keys * 2 * 12, 3));
        let run = |isa| {
            let mut out = vec![0.0; q.len()];
            shape.attend_on(isa, &mut out, &q, [&k, &v], &mut Scratch::default());
            bits(&out)
        };
        for isa in Isa::available() {
            assert!(run(isa) == run(Isa::available()[0]), "{isa:?}");
        }
    }

    #[test]
    fn scratch_carries_nothing_over() {
        let shape = Heads { heads: 2, kv_heads: 1, dim: 4, scale: 0.5 };
        let (q, k) = (noise(40 * 8, 1), noise(40 * 4, 2));
        let mut scratch = Scratch::default();
        let run = |scratch: &mut Scratch, tokens: usize| {
            let mut out = vec![0.0; tokens * 8];
            shape.attend(&mut out, &q[..tokens * 8], &k, &k, scratch);
            out
        };
        let long = run(&mut scratch, 40);
        let short = run(&mut scratch, 3);
        assert_eq!(run(&mut scratch, 40), long);
        assert_eq!(run(&mut Scratch::default(), 3), short);
    }

    #[test]
    #[should_panic(expected = "queries of")]
    fn more_queries_than_keys_are_refused() {
        let shape = Heads { heads: 1, kv_heads: 1, dim: 2, scale: 1.0 };
        shape.attend(&mut [0.0; 4], &[0.0; 4], &[0.0; 2], &[0.0; 2], &mut Scratch::default());
    }
}
