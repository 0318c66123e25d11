//! The statistics of one input of linear maps, and the encoding of weights with them.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use kquant_formats::FormatError;
use kquant_kernels::block::BlockType;
use rayon::prelude::*;

use super::moments::{InputMoments, MeanMoments};
use super::range::{check_scales, check_squares, check_weights};
use super::report::{CalibrationReport, Steps, TensorReport};
use super::target::correct;
use crate::encode::feedback::{Damping, Feedback, FeedbackError, Losses};
use crate::encode::{LayerMethod, LayerTensor, OutOfRange, Rows};
use crate::layerwise::CalibratedError;
use crate::model::ModelError;
use crate::plan::PlannedTensor;
use crate::tensor::Stash;
use crate::text::is_held_out;

/// Moments of the training blocks of a text and of its held-out blocks.
pub(crate) struct Halves {
    train: InputMoments,
    held_out: InputMoments,
}

impl Halves {
    /// Creates empty moments of inputs of `columns` columns and losses of width `lost`.
    pub(crate) fn new(columns: usize, lost: usize) -> Self {
        Self { train: InputMoments::new(columns, lost), held_out: InputMoments::new(columns, lost) }
    }

    /// Returns the number of columns of the input.
    pub(crate) fn columns(&self) -> usize {
        self.train.columns()
    }

    /// Returns the number of floating-point operations that adding a token takes.
    pub(crate) fn operations(&self) -> f64 {
        let (n, k) = (self.train.columns() as f64, self.train.lost() as f64);
        n * n + 2.0 * k * n
    }

    /// Returns the means over the training tokens and over the held-out tokens.
    pub(crate) fn means(self) -> (Option<MeanMoments>, Option<MeanMoments>) {
        (self.train.means(), self.held_out.means())
    }

    /// Adds tokens of block `block` of `blocks` for which no losses are known.
    pub(crate) fn add_block(&mut self, block: usize, blocks: usize, x: &[f32]) {
        let half = if is_held_out(block, blocks) { &mut self.held_out } else { &mut self.train };
        half.add(x, &[]);
    }

    /// Adds the tokens from `first` on, of `total`; each block of `block` tokens is added to its half.
    pub(crate) fn add(&mut self, (first, total): (usize, usize), block: usize, x: &[f32], lost: &[f32]) {
        let blocks = total.div_ceil(block);
        let parts = x.chunks(block * self.train.columns()).zip(lost.chunks(block * self.train.lost()));
        for (i, (x, lost)) in parts.enumerate() {
            let held_out = is_held_out(first / block + i, blocks);
            let half = if held_out { &mut self.held_out } else { &mut self.train };
            half.add(x, lost);
        }
    }
}

/// The statistics of one input of linear maps, as means over the tokens.
pub(super) struct Input {
    feedback: Feedback,
    /// Mean squares of the input, `[columns]`.
    importance: Vec<f32>,
    /// Cross moments `lost' x`, as in [`MeanMoments`].
    cross: Option<Vec<f32>>,
    /// Number of tokens that reached this input, even if the means cover others.
    tokens: u64,
    /// Share of the means that comes from the other matrices of the layer, 0 to 1.
    layer: f64,
    held_out: Option<MeanMoments>,
}

/// The way in which weights are encoded.
#[derive(Clone, Copy)]
pub(super) struct MatrixMethod<'a> {
    pub layers: &'a dyn LayerMethod,
    /// The damped Fisher matrix of the tensor's outputs, if it is known.
    pub outputs: Option<&'a Feedback>,
    pub cancel: &'a AtomicBool,
}

/// An encoded weight.
#[derive(Default)]
pub(super) struct EncodedMatrix {
    /// The bytes; `None` for types that are not quantized, which need no statistics and are left to the pipeline.
    bytes: Option<Vec<u8>>,
    /// The report on feedback, where it was used.
    report: Option<TensorReport>,
}

impl EncodedMatrix {
    /// Returns the bytes and the report.
    pub(super) fn into_parts(self) -> (Option<Vec<u8>>, Option<TensorReport>) {
        (self.bytes, self.report)
    }

    /// Adds the bytes to the stash and the report to the reports.
    pub(super) fn keep(
        self,
        tensor: &PlannedTensor,
        stash: &mut Stash,
        report: &mut CalibrationReport,
    ) -> Result<(), FormatError> {
        report.tensors.extend(self.report);
        let columns = tensor.mapped.columns() as usize;
        self.bytes.map_or(Ok(()), |bytes| stash.insert(&tensor.mapped.name, tensor.block, columns, bytes))
    }
}

/// Returns the number of columns that the first of `tensors` with feedback rounds together, by which the Hessian is
/// ordered.
pub(super) fn unit_of<'a>(
    layers: &dyn LayerMethod,
    tensors: impl IntoIterator<Item = &'a PlannedTensor>,
) -> usize {
    tensors.into_iter().filter(|t| !t.copy).find_map(|t| layers.unit(t.block)).unwrap_or(1)
}

/// Encodes `weights` `[rows][columns]` with the encoder of `tensor`, without feedback, with the columns' `importance`.
///
/// # Errors
/// Fails when the type cannot hold a weight.
pub(super) fn encode_plainly(
    tensor: &PlannedTensor,
    weights: &[f32],
    importance: &[f32],
    out: &mut [u8],
) -> Result<(), OutOfRange> {
    check_weights(tensor, weights, 0)?;
    let columns = importance.len();
    let encoder = tensor.encoder;
    let importance = encoder.prepare_importance(importance, columns);
    let row_bytes = columns / tensor.block.elements * tensor.block.bytes;
    let all = weights;
    weights.par_chunks(columns).zip(out.par_chunks_mut(row_bytes)).for_each(|(weights, out)| {
        encoder.encode(tensor.block, Rows { weights, columns }, Some(&importance), out);
    });
    check_scales(tensor, all, out, 0)
}

impl Input {
    /// Returns the number of floating-point operations that [`Input::new`] takes for `columns` columns.
    pub(super) fn factor_operations(columns: usize) -> f64 {
        (columns as f64).powi(3) / 3.0
    }

    /// Factors the training Hessian for the weights `names`, in the order of types that round `unit` columns together.
    /// Returns `None` if the input is always zero: there is nothing to learn, and the pipeline encodes these weights as
    /// if all columns were equally important.
    ///
    /// # Errors
    /// Fails when the Hessian has no factors.
    pub(super) fn new(
        train: MeanMoments,
        held_out: Option<MeanMoments>,
        (names, unit): (&[String], usize),
    ) -> Result<Option<Self>, CalibratedError> {
        let MeanMoments { hessian, cross } = train;
        let (importance, tokens) = (hessian.diagonal(), hessian.tokens);
        let damping = Damping::for_tokens(hessian.columns, tokens);
        match Feedback::in_units(hessian, damping, unit) {
            Ok(feedback) => Ok(Some(Self { feedback, importance, cross, tokens, layer: 0.0, held_out })),
            Err(FeedbackError::Inactive) => Ok(None),
            Err(source) => {
                Err(CalibratedError::Factor { tensor: names.first().cloned().unwrap_or_default(), source })
            }
        }
    }

    /// Returns the input as that of a matrix that `tokens` tokens reached, with a share `layer` of its means from the
    /// other matrices of the layer.
    pub(super) fn pooled(self, tokens: u64, layer: f64) -> Self {
        Self { tokens, layer, ..self }
    }

    /// Returns the number of held-out tokens.
    pub(super) fn held_out_tokens(&self) -> u64 {
        self.held_out.as_ref().map_or(0, |h| h.hessian.tokens)
    }

    /// Encodes `weights` (`[rows][columns]`) as `tensor` asks, with feedback if its type supports it. The known losses
    /// are differences of inputs if `of_inputs`, else of outputs.
    pub(super) fn encode(
        &mut self,
        tensor: &PlannedTensor,
        mut weights: Vec<f32>,
        of_inputs: bool,
        method: &MatrixMethod,
        steps: &mut Steps,
    ) -> Result<EncodedMatrix, CalibratedError> {
        check_weights(tensor, &weights, 0)?;
        if !tensor.block.quantized {
            return Ok(EncodedMatrix::default());
        }
        let mut bytes = vec![0; tensor.bytes as usize];
        let Some(unit) = method.layers.unit(tensor.block) else {
            encode_plainly(tensor, &weights, &self.importance, &mut bytes)?;
            return Ok(EncodedMatrix { bytes: Some(bytes), report: None });
        };
        let start = Instant::now();
        self.feedback
            .arrange(unit)
            .map_err(|source| CalibratedError::Factor { tensor: tensor.mapped.name.clone(), source })?;
        steps.factors.add(start, 0.0);
        let start = Instant::now();
        let correct = |cross: &Vec<f32>| {
            correct(&mut weights, &self.feedback, cross, self.held_out.as_ref(), of_inputs)
        };
        let correction = self.cross.as_ref().map_or(0.0, correct);
        let (rows, n) = (tensor.mapped.rows(), self.feedback.columns());
        let squares = rows as f64 * (n as f64).powi(2);
        if self.cross.is_some() {
            steps.targets.add(start, squares * if of_inputs { 4.0 } else { 2.0 });
        }
        // The check covers the corrected targets or, where nothing is corrected, the weights.
        check_squares(tensor, &weights, 0)?;
        let start = Instant::now();
        let outputs = method.outputs.filter(|outputs| outputs.columns() as u64 == rows);
        let method = &MatrixMethod { outputs, ..*method };
        let losses = self.round(tensor.block, &weights, method, &mut bytes)?;
        steps.rounding.add(start, method.layers.operations(rows, n, outputs.is_some()));
        check_scales(tensor, &weights, &bytes, 0)?;
        let report =
            TensorReport { both_sides: outputs.is_some(), ..self.report(tensor, correction, &losses) };
        Ok(EncodedMatrix { bytes: Some(bytes), report: Some(report) })
    }

    /// Encodes `targets` (`[rows][columns]`) as `block` into `out`.
    pub(super) fn round(
        &self,
        block: &BlockType,
        targets: &[f32],
        method: &MatrixMethod,
        out: &mut [u8],
    ) -> Result<Losses, ModelError> {
        let tensor = LayerTensor {
            block,
            inputs: &self.feedback,
            outputs: method.outputs,
            held_out: self.held_out.as_ref().map(|h| &h.hessian),
            targets,
            cancel: method.cancel,
        };
        method.layers.encode(&tensor, out).ok_or(ModelError::Interrupted)
    }

    pub(super) fn report(&self, tensor: &PlannedTensor, correction: f32, losses: &Losses) -> TensorReport {
        let columns = self.feedback.columns();
        TensorReport {
            name: tensor.mapped.name.clone(),
            kind: tensor.block.name.to_owned(),
            rows: losses.rows,
            columns,
            tokens_per_column: self.tokens as f64 / columns as f64,
            layer: self.layer,
            damping: self.feedback.damping().mean,
            correction,
            both_sides: false,
            ggml: losses.ggml(),
            search: losses.search,
            written: losses.result,
        }
    }
}
