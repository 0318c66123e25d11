//! The gradient of attention.
//!
//! P is the softmax of the scores S of one head's queries. Then `dV = P' dO` and `dP = dO V'`; `dS` follows from `dP`
//! through the softmax and the cap; `dQ = scale dS K` and `dK = scale dS' Q`. Scores are computed again, a block of
//! queries at a time, so that no more memory is held than in the forward pass.

use std::ops::Range;

use super::activation::soft_cap_on;
use super::activation_gradient::soft_cap_gradient_on;
use super::attention::{BLOCK, Heads, QueryBlock, Seen};
use super::softmax::{softmax_gradient_on, softmax_with_on};
use crate::isa::Isa;
use crate::linalg::{View, ViewMut, gemm_on};

/// The gradients of the inputs of attention, which the backward pass fills.
#[derive(Debug)]
pub struct SeenGradients<'a> {
    /// The gradient of the queries, `[tokens][heads][dim]`.
    pub queries: &'a mut [f32],
    /// The gradient of the keys, `[keys][kv_heads][dim]`.
    pub keys: &'a mut [f32],
    /// The gradient of the values, `[keys][kv_heads][value_dim]`.
    pub values: &'a mut [f32],
}

/// Memory that calls of [`Heads::attend_gradient`] share.
#[derive(Debug, Default)]
pub struct GradientScratch {
    /// The scores of a block, and later their softmax, `[queries][keys]`.
    p: Vec<f32>,
    /// The gradient of the softmax, and later that of the scores, `[queries][keys]`.
    d: Vec<f32>,
    /// The capped scores, `[queries][keys]`.
    capped: Vec<f32>,
}

impl Heads {
    /// Computes the `gradients` of [`attend`](Self::attend) at `q` and `seen`; `d_out` is the gradient of its result.
    /// Sums run over the queries in blocks of fixed size, in their order.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit or there are more queries than keys.
    pub fn attend_gradient(
        &self,
        gradients: SeenGradients,
        d_out: &[f32],
        q: &[f32],
        seen: Seen,
        scratch: &mut GradientScratch,
    ) {
        self.attend_gradient_on(Isa::current(), gradients, d_out, q, seen, scratch);
    }

    pub(super) fn attend_gradient_on(
        &self,
        isa: Isa,
        gradients: SeenGradients,
        d_out: &[f32],
        q: &[f32],
        seen: Seen,
        scratch: &mut GradientScratch,
    ) {
        let SeenGradients { queries: dq, keys: dk, values: dv } = gradients;
        assert!(
            dq.len() == q.len() && dk.len() == seen.keys.len() && dv.len() == seen.values.len(),
            "gradients do not fit queries, keys and values"
        );
        let Self { heads, kv_heads, dim, value_dim, .. } = *self;
        for gradient in [&mut *dq, &mut *dk, &mut *dv] {
            gradient.fill(0.0);
        }
        let Some((tokens, keys)) = self.check(d_out, q, &seen) else { return };
        for first in (0..tokens).step_by(BLOCK) {
            let queries = BLOCK.min(tokens - first);
            let at = first + keys - tokens;
            let Range { start, end } = self.keys_of(at, queries, keys);
            for head in 0..heads {
                let kv_head = head * kv_heads / heads;
                let block = QueryBlock { isa, queries, at, start, seen: end - start, shape: self };
                let (k_at, v_at) =
                    ((start * kv_heads + kv_head) * dim, (start * kv_heads + kv_head) * value_dim);
                let (q_at, out_at) = ((first * heads + head) * dim, (first * heads + head) * value_dim);
                let sink = seen.sinks.get(head).copied();
                block.softmax(&q[q_at..], &seen.keys[k_at..], sink, scratch);
                block.values(&mut dv[v_at..], &d_out[out_at..], &scratch.p);
                block.scores(&d_out[out_at..], &seen.values[v_at..], scratch);
                block.queries_and_keys(
                    [&mut dq[q_at..], &mut dk[k_at..]],
                    [&q[q_at..], &seen.keys[k_at..]],
                    &scratch.d,
                );
            }
        }
    }
}

impl QueryBlock<'_> {
    fn q_view<'v>(&self, q: &'v [f32]) -> View<'v> {
        View::new(q, self.queries, self.shape.dim, self.shape.heads * self.shape.dim, 1)
    }

    fn k_view<'v>(&self, k: &'v [f32]) -> View<'v> {
        View::new(k, self.seen, self.shape.dim, self.shape.kv_heads * self.shape.dim, 1)
    }

    fn out_view<'v>(&self, out: &'v [f32]) -> View<'v> {
        View::new(out, self.queries, self.shape.value_dim, self.shape.heads * self.shape.value_dim, 1)
    }

    /// Computes P, and the capped scores if there is a cap.
    fn softmax(&self, q: &[f32], k: &[f32], sink: Option<f32>, scratch: &mut GradientScratch) {
        let GradientScratch { p, capped, .. } = scratch;
        p.resize(self.queries * self.seen, 0.0);
        let out = ViewMut::row_major(p, self.seen);
        gemm_on(self.isa, out, self.q_view(q), self.k_view(k).transposed(), self.shape.scale, 0.0);
        if let Some(cap) = self.shape.cap {
            soft_cap_on(self.isa, p, cap);
            capped.clone_from(p);
        }
        for (i, row) in p.chunks_exact_mut(self.seen).enumerate() {
            let visible = self.visible(i);
            softmax_with_on(self.isa, &mut row[visible.clone()], sink);
            row[..visible.start].fill(0.0);
            row[visible.end..].fill(0.0);
        }
    }

    /// Adds `P' dO` to dV.
    fn values(&self, dv: &mut [f32], d_out: &[f32], p: &[f32]) {
        let Heads { kv_heads, value_dim, .. } = *self.shape;
        let dv = ViewMut::new(dv, self.seen, value_dim, kv_heads * value_dim, 1);
        gemm_on(self.isa, dv, View::row_major(p, self.seen).transposed(), self.out_view(d_out), 1.0, 1.0);
    }

    /// Computes dS, the gradient of the scores before they are capped.
    fn scores(&self, d_out: &[f32], v: &[f32], scratch: &mut GradientScratch) {
        let Heads { kv_heads, value_dim, .. } = *self.shape;
        let GradientScratch { p, d, capped } = scratch;
        d.resize(p.len(), 0.0);
        let v = View::new(v, self.seen, value_dim, kv_heads * value_dim, 1);
        gemm_on(self.isa, ViewMut::row_major(d, self.seen), self.out_view(d_out), v.transposed(), 1.0, 0.0);
        for (i, (d, p)) in d.chunks_exact_mut(self.seen).zip(p.chunks_exact(self.seen)).enumerate() {
            let visible = self.visible(i);
            softmax_gradient_on(self.isa, &mut d[visible.clone()], &p[visible.clone()]);
            d[..visible.start].fill(0.0);
            d[visible.end..].fill(0.0);
        }
        if let Some(cap) = self.shape.cap {
            soft_cap_gradient_on(self.isa, d, capped, cap);
        }
    }

    /// Computes `dQ = scale dS K` and adds `scale dS' Q` to dK.
    fn queries_and_keys(&self, [dq, dk]: [&mut [f32]; 2], [q, k]: [&[f32]; 2], d: &[f32]) {
        let Heads { heads, kv_heads, dim, scale, .. } = *self.shape;
        let d = View::row_major(d, self.seen);
        let dq = ViewMut::new(dq, self.queries, dim, heads * dim, 1);
        gemm_on(self.isa, dq, d, self.k_view(k), scale, 0.0);
        let dk = ViewMut::new(dk, self.seen, dim, kv_heads * dim, 1);
        gemm_on(self.isa, dk, d.transposed(), self.q_view(q), scale, 1.0);
    }
}
