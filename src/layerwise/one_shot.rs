//! Encoding with Hessians of the original model, read from a statistics file: no text is run, and one file serves all types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use kquant_formats::hessian::Half;

use super::embedding::encode_embedding;
use super::input::{Input, MatrixMethod, unit_of};
use super::journal::Journal;
use super::matrices::{LayerMeans, encode_one, matrix_input, matrix_name, needs_layer};
use super::moments::MeanMoments;
use super::outputs::OutputFishers;
use super::report::CalibrationReport;
use crate::context::Progress;
use crate::encode::LayerMethod;
use crate::encode::feedback::Feedback;
use crate::encode::feedback::Hessian;
use crate::layerwise::CalibratedError;
use crate::model::{EMBEDDING, Model};
use crate::plan::{Plan, PlannedTensor};
use crate::statistics::pool::{Common, of_mean_square};
use crate::statistics::{GroupHessians, HessianFile};
use crate::tensor::{MappedTensor, Stash};

/// The settings of a one-shot run.
pub struct OneShot<'a> {
    /// The original model.
    pub model: &'a Model,
    /// The plan of the tensors to write.
    pub plan: &'a Plan,
    /// The statistics file.
    pub file: &'a HessianFile,
    /// Options of rounding with feedback.
    pub layers: &'a dyn LayerMethod,
    /// The source of the Fisher matrices of outputs.
    pub outputs: OutputFishers<'a>,
    /// Memory for weights, Hessians and encoded tensors, in bytes.
    pub memory: u64,
    /// A flag that is set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// The receiver of progress, in the unit of [`OneShot::work`].
    pub progress: &'a dyn Progress,
    /// The journal of the run, if it has one.
    pub journal: Option<&'a Journal>,
}

impl OneShot<'_> {
    /// Returns the units of work: the number of weights of the tensors of `plan` that the file has statistics of.
    pub fn work(plan: &Plan, file: &HessianFile) -> u64 {
        let covered: BTreeSet<&str> =
            file.groups().flat_map(|group| group.tensors()).map(String::as_str).collect();
        let planned = plan.tensors.iter().map(|tensor| &tensor.mapped);
        planned.filter(|tensor| covered.contains(tensor.name.as_str())).map(MappedTensor::weights).sum()
    }

    /// Encodes every tensor that the file has statistics of.
    ///
    /// # Errors
    /// Fails when the file is of another model or cannot be used, when memory is too little, or when the run is
    /// cancelled.
    pub fn run(&self) -> Result<(Stash, CalibrationReport), CalibratedError> {
        let planned: BTreeMap<&str, &PlannedTensor> =
            self.plan.tensors.iter().map(|t| (t.mapped.name.as_str(), t)).collect();
        let needed = self.check(&planned)?;
        let mut stash = Stash::new((self.memory - needed) / 2);
        let mut report = CalibrationReport::default();
        let restored = self.journal.map(|journal| journal.restore(&mut stash, &mut report, None));
        let (first, mut done) = restored.transpose()?.flatten().unwrap_or_default();
        self.progress.resume(done);
        if let Some(tensor) = planned.get(EMBEDDING).filter(|_| first == 0) {
            let table = (self.model, *tensor);
            encode_embedding(table, &self.outputs, &self.method(None), &mut stash, &mut report)?;
        }
        for (number, group) in self.file.groups().enumerate().skip(first) {
            let tensors: Vec<_> =
                group.tensors().iter().filter_map(|name| planned.get(name.as_str()).copied()).collect();
            // A plan of one part of a model has none of the tensors of most groups.
            if tensors.is_empty() {
                continue;
            }
            if group.matrices() > 1 {
                self.encode_matrices(&group, &tensors, &mut stash, &mut report)?;
            } else if let Some(mut input) = self.input(&group, (0, &tensors), &mut None, &mut report)? {
                for tensor in tensors.iter().filter(|t| !t.copy) {
                    self.encode(tensor, &mut input, &mut stash, &mut report)?;
                }
            }
            done += tensors.iter().map(|t| t.mapped.weights()).sum::<u64>();
            self.progress.advance(done, group.tensors().first().map_or("", String::as_str));
            if let Some(journal) = self.journal {
                journal.keep((number + 1, done), &stash, &report, None);
            }
        }
        Ok((stash, report))
    }

    /// Checks shapes before any work and returns the bytes that the largest group takes.
    fn check(&self, planned: &BTreeMap<&str, &PlannedTensor>) -> Result<u64, CalibratedError> {
        let mut largest = 0;
        for group in self.file.groups() {
            let columns = group.columns() as u64;
            for tensor in group.tensors().iter().filter_map(|name| planned.get(name.as_str())) {
                if tensor.mapped.columns() != columns {
                    return Err(CalibratedError::Columns {
                        tensor: tensor.mapped.name.clone(),
                        found: columns,
                        expected: tensor.mapped.columns(),
                    });
                }
                if tensor.mapped.matrices() != group.matrices() as u64 {
                    return Err(CalibratedError::Matrices {
                        tensor: tensor.mapped.name.clone(),
                        found: group.matrices() as u64,
                        expected: tensor.mapped.matrices(),
                    });
                }
                // A group of several matrices needs the layer's mean as well.
                let squares = if group.matrices() > 1 { 8 } else { 6 };
                let rows = tensor.mapped.rows_per_matrix();
                let both = OutputFishers::floats(self.outputs.are_known(), rows, columns);
                let floats = both + squares * columns * columns + 4 * rows * columns;
                largest = largest.max(4 * floats);
            }
        }
        if largest > self.memory {
            return Err(CalibratedError::Memory { what: "the largest tensor".into(), needed: largest });
        }
        Ok(largest)
    }

    /// Returns the factored statistics of one input; `None` if there are none. `layer` caches the statistics of all
    /// matrices of the group, once they are needed.
    fn input(
        &self,
        group: &GroupHessians,
        (matrix, tensors): (usize, &[&PlannedTensor]),
        layer: &mut Option<LayerMeans>,
        report: &mut CalibrationReport,
    ) -> Result<Option<Input>, CalibratedError> {
        let start = Instant::now();
        let means = |half| {
            let hessian = group.read(matrix, half)?;
            Ok::<_, CalibratedError>(hessian.map(|hessian| MeanMoments { hessian, cross: None }))
        };
        let own = (means(Half::Train)?, means(Half::HeldOut)?);
        let common = group.tensors().first().and_then(|name| Common::of(name));
        let layer = match common.filter(|_| needs_layer(&own, group.columns())) {
            Some(_) if layer.is_some() => layer.as_ref(),
            Some(common) => Some(&*layer.insert(layer_means(group, common)?)),
            None => None,
        };
        report.held_out_tokens = report.held_out_tokens.max(group.tokens(matrix, Half::HeldOut));
        report.tokens = report.tokens.max(group.tokens(matrix, Half::Train) + report.held_out_tokens);
        let names: Vec<String> = match group.matrices() {
            1 => group.tensors().to_vec(),
            _ => group.tensors().iter().map(|name| matrix_name(name, matrix)).collect(),
        };
        let unit = unit_of(self.layers, tensors.iter().copied());
        let input = matrix_input(own, layer, (&names, unit));
        report.steps.factors.add(start, Input::factor_operations(group.columns()));
        input
    }

    /// Encodes tensors of several matrices, each with a Hessian of its own.
    fn encode_matrices(
        &self,
        group: &GroupHessians,
        tensors: &[&PlannedTensor],
        stash: &mut Stash,
        report: &mut CalibrationReport,
    ) -> Result<(), CalibratedError> {
        let tensors: Vec<_> = tensors.iter().copied().filter(|t| !t.copy && t.block.quantized).collect();
        let mut encoded = vec![Vec::new(); tensors.len()];
        let outputs = tensors.iter().map(|t| self.outputs.feedback(&t.mapped.name));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let mut layer = None;
        for matrix in 0..if tensors.is_empty() { 0 } else { group.matrices() } {
            let mut input = self.input(group, (matrix, &tensors), &mut layer, report)?;
            for ((tensor, outputs), out) in tensors.iter().zip(&outputs).zip(&mut encoded) {
                let method = self.method(outputs.as_ref());
                let steps = &mut report.steps;
                let (bytes, told) = encode_one(self.model, tensor, matrix, input.as_mut(), &method, steps)?;
                report.tensors.extend(told);
                out.extend(bytes);
            }
        }
        for (tensor, bytes) in tensors.into_iter().zip(encoded) {
            stash.insert(&tensor.mapped.name, tensor.block, group.columns(), bytes)?;
        }
        Ok(())
    }

    fn method<'b>(&'b self, outputs: Option<&'b Feedback>) -> MatrixMethod<'b> {
        MatrixMethod { layers: self.layers, outputs, cancel: self.cancel }
    }

    fn encode(
        &self,
        tensor: &PlannedTensor,
        input: &mut Input,
        stash: &mut Stash,
        report: &mut CalibrationReport,
    ) -> Result<(), CalibratedError> {
        let outputs = self.outputs.feedback(&tensor.mapped.name)?;
        let method = self.method(outputs.as_ref());
        let weights = self.model.values(&tensor.mapped)?;
        let encoded = input.encode(tensor, weights, true, &method, &mut report.steps)?;
        Ok(encoded.keep(tensor, stash, report)?)
    }
}

/// Returns the means over the tokens of all matrices of `group`.
fn layer_means(group: &GroupHessians, common: Common) -> Result<LayerMeans, CalibratedError> {
    let mut layer = [None, None];
    for (half, layer) in Half::ALL.into_iter().zip(&mut layer) {
        let all: u64 = (0..group.matrices()).map(|matrix| group.tokens(matrix, half)).sum();
        for matrix in 0..group.matrices() {
            let Some(own) = group.read(matrix, half)? else { continue };
            let share = own.tokens as f32 / all as f32;
            let layer = layer.get_or_insert_with(|| Hessian {
                columns: own.columns,
                mean: vec![0.0; own.mean.len()],
                tokens: all,
            });
            layer.mean.iter_mut().zip(&own.mean).for_each(|(sum, x)| *sum += share * x);
        }
        if let (Common::Scale, Some(layer)) = (common, layer) {
            let squares = layer.diagonal().iter().map(|&x| f64::from(x)).sum::<f64>();
            *layer = of_mean_square(squares / layer.columns as f64, layer.columns, all);
        }
    }
    Ok(layer)
}
