//! The inputs that layers have from the tokens themselves, beside the stream (Gemma 3n and 4).
//!
//! The input of layer l is `(norm(P_l x / sqrt(hidden)) + sqrt(width) t_l) / sqrt(2)`, where x is the row of the embedding, P_l the layer's
//! rows of a projection and t_l the layer's part of the token's row in a second table.
//!
//! Source: `Gemma4TextModel` of transformers.

use kquant_kernels::math;
use rayon::prelude::*;

use super::backward::ROWS;
use super::products::Packed;
use super::tile::{join_rows, split_rows};
use super::{Model, ModelError};
use crate::graph::NormKind;
use crate::model::GradientObserver;
use crate::text::for_blocks;

/// Name of the second table's tensor, `[vocab][layers * width]`.
pub(super) const LAYER_EMBEDDING: &str = "per_layer_token_embd.weight";
/// Name of the projection's tensor, `[layers * width][hidden]`.
pub(super) const LAYER_PROJECTION: &str = "per_layer_model_proj.weight";
/// Name of the norm's tensor, `[width]`, without `.weight`.
pub(super) const LAYER_NORM: &str = "per_layer_proj_norm";

impl Model {
    /// Returns the width of the inputs of all layers.
    pub(super) fn layer_inputs_width(&self) -> usize {
        self.hyper.layers * self.hyper.layer_input
    }

    /// Puts the inputs of all layers beside the rows of `stream` `[tokens][hidden]`, those of the embedding for `tokens`.
    pub(super) fn with_layer_inputs(
        &self,
        (tokens, context): (&[u32], usize),
        stream: Vec<f32>,
    ) -> Result<Vec<f32>, ModelError> {
        let all = self.layer_inputs_width();
        if all == 0 {
            return Ok(stream);
        }
        let mut inputs = vec![0.0; tokens.len() * all];
        let projected = self.projected(context, &stream)?;
        self.norms(LAYER_NORM, NormKind::Rms)?.apply_to_rows(&projected, &mut inputs);
        let table = self.tensor(LAYER_EMBEDDING)?;
        let scale = (self.hyper.layer_input as f32).sqrt();
        inputs.par_chunks_mut(all).zip(tokens).try_for_each_init(Vec::new, |row, (inputs, &token)| {
            row.resize(all, 0.0);
            self.read(table, u64::from(token)..u64::from(token) + 1, row)?;
            math::add_scaled(inputs, row, scale);
            inputs.iter_mut().for_each(|x| *x *= std::f32::consts::FRAC_1_SQRT_2);
            Ok::<_, ModelError>(())
        })?;
        Ok(join_rows(stream, &inputs, tokens.len()))
    }

    fn layer_projection(&self) -> Result<Packed, ModelError> {
        let tensor = self.tensor(LAYER_PROJECTION)?;
        self.packed(tensor, 0..tensor.rows())
    }

    /// Returns the projection of `stream` `[tokens][hidden]`, `[tokens][layers * width]`, before its norm.
    fn projected(&self, context: usize, stream: &[f32]) -> Result<Vec<f32>, ModelError> {
        let (hidden, all) = (self.hyper.hidden, self.layer_inputs_width());
        let mut out = vec![0.0; stream.len() / hidden * all];
        let weight = self.layer_projection()?;
        let scale = 1.0 / (hidden as f32).sqrt();
        for_blocks(context, (stream, hidden), (&mut out, all), |x, out| {
            weight.apply(out, x);
            out.iter_mut().for_each(|x| *x *= scale);
        });
        Ok(out)
    }

    /// Returns the gradient of the embedding's rows for `tokens`, after their scale, given that of the `rows` that go into the first
    /// layer; `observer` is shown the gradients of the weights on the way.
    pub(super) fn layer_inputs_gradient(
        &self,
        (tokens, context): (&[u32], usize),
        rows: Vec<f32>,
        observer: &mut dyn GradientObserver,
    ) -> Result<Vec<f32>, ModelError> {
        let (hidden, all) = (self.hyper.hidden, self.layer_inputs_width());
        let [mut stream, mut inputs] = split_rows(rows, hidden, all);
        if all == 0 {
            return Ok(stream);
        }
        let x = self.enter_stream(tokens)?;
        let projected = self.projected(context, &x)?;
        let norms = self.norms(LAYER_NORM, NormKind::Rms)?;
        let scaled = |values: &mut [f32], factor: f32| {
            values.par_chunks_mut(all).for_each(|row| row.iter_mut().for_each(|v| *v *= factor));
        };
        scaled(&mut inputs, std::f32::consts::FRAC_1_SQRT_2);
        if let Some(observer) = observer.weights() {
            let mut of_table = inputs.clone();
            scaled(&mut of_table, (self.hyper.layer_input as f32).sqrt());
            observer.rows(LAYER_EMBEDDING, tokens, &of_table, all);
            norms.show(&self.norm_weight(LAYER_NORM), &projected, &inputs, observer);
        }
        norms.gradient(&projected, &mut inputs);
        scaled(&mut inputs, 1.0 / (hidden as f32).sqrt());
        if let Some(observer) = observer.weights() {
            observer.product(LAYER_PROJECTION, 0, &inputs, &x, hidden);
        }
        let transposed = self.layer_projection()?.transposed();
        let mut back = vec![0.0; stream.len()];
        let blocks = back.par_chunks_mut(ROWS * hidden).zip(inputs.par_chunks(ROWS * all));
        blocks.for_each(|(back, inputs)| transposed.apply(back, inputs));
        stream.par_chunks_mut(hidden).zip(back.par_chunks(hidden)).for_each(|(sum, x)| math::add(sum, x));
        Ok(stream)
    }

    /// Returns the rows of the embedding for `tokens`, times their scale.
    fn enter_stream(&self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let mut rows = self.lookup(tokens, |token, out| self.embedding_row(token, out))?;
        rows.par_chunks_mut(self.hyper.hidden)
            .for_each(|row| row.iter_mut().for_each(|x| *x *= self.hyper.embedding_scale));
        Ok(rows)
    }
}
