//! Tests of the whole backward pass against differences of the loss, for every architecture at hand.
//!
//! The output of a linear map, the input of the first layer, or a weight is moved along a random direction, and the loss of the same
//! labels is computed again. A central difference over a step and one over twice the step give the derivative up to the
//! fourth order (Richardson). The step is such that the loss changes by about [`CHANGE`]: the loss of a few dozen tokens has
//! an error of some 1e-6 in f32, so that the derivative is accurate to some 1e-3 of its usual size.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use kquant_formats::FormatError;
use rayon::prelude::*;

use super::super::routed::{Assignment, Routes, RowPart};
use super::super::steps::Positions;
use super::super::tile::Tile;
use super::super::{EMBEDDING, Model};
use super::head::LossHead;
use super::{Backward, Labels};
use crate::checkpoint::archs;
use crate::context::Silent;
use crate::graph::{By, Op, Scores, Slot, weight_name};
use crate::model::{GradientObserver, ObserveError, WeightObserver};
use crate::tensor::Replaced;

/// Change of the loss of all tokens that a step aims at, in nats.
const CHANGE: f64 = 4e-3;
/// Number of directions that are tried until two are compared.
const DIRECTIONS: u64 = 48;
/// Largest error of a derivative, relative to its usual size for random directions.
const TOLERANCE: f64 = 1e-2;

/// Gradients by tensor, `[rows][outputs]`; those of experts are kept for each expert.
#[derive(Default)]
struct Seen {
    gradients: BTreeMap<String, Vec<f32>>,
    experts: BTreeMap<String, Vec<Vec<f32>>>,
    weights: WeightSums,
}

/// Gradients of weights by tensor, summed by their definition.
#[derive(Default)]
struct WeightSums(BTreeMap<String, Vec<f64>>);

impl WeightSums {
    /// Returns the elements of `tensor` from `first` on.
    fn from(&mut self, tensor: &str, first: usize, length: usize) -> &mut [f64] {
        let all = self.0.entry(tensor.to_owned()).or_default();
        all.resize(all.len().max(first + length), 0.0);
        &mut all[first..first + length]
    }
}

impl WeightObserver for WeightSums {
    fn product(&mut self, tensor: &str, first: usize, gradient: &[f32], x: &[f32], columns: usize) {
        let rows = x.len() / columns;
        let outputs = gradient.len().checked_div(rows).unwrap_or(0);
        let sums = self.from(tensor, first * columns, outputs * columns);
        for (gradient, x) in gradient.chunks_exact(outputs.max(1)).zip(x.chunks_exact(columns)) {
            for (sums, g) in sums.chunks_exact_mut(columns).zip(gradient) {
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*g) * f64::from(*x));
            }
        }
    }

    fn columns(&mut self, tensor: &str, first: usize, values: &[f32], width: usize) {
        let sums = self.from(tensor, first, width);
        for row in values.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }

    fn rows(&mut self, tensor: &str, numbers: &[u32], gradient: &[f32], columns: usize) {
        for (&number, gradient) in numbers.iter().zip(gradient.chunks_exact(columns)) {
            self.columns(tensor, number as usize * columns, gradient, columns);
        }
    }
}

/// Weights that the model reads in the place of its own while a test moves them.
#[derive(Debug, Default)]
struct MovedWeights(Mutex<Option<Moved>>);

#[derive(Debug)]
struct Moved {
    tensor: String,
    columns: usize,
    values: Vec<f32>,
}

impl Replaced for MovedWeights {
    fn rows(&self, tensor: &str, first: u64, out: &mut [f32]) -> Option<Result<(), FormatError>> {
        let moved = self.0.lock().unwrap();
        let Moved { columns, values, .. } = moved.as_ref().filter(|moved| moved.tensor == tensor)?;
        out.copy_from_slice(&values[first as usize * columns..][..out.len()]);
        Some(Ok(()))
    }
}

impl GradientObserver for Seen {
    fn output_gradient(&mut self, tensor: &str, gradient: &[f32], _: usize) -> Result<(), ObserveError> {
        self.gradients.entry(tensor.to_owned()).or_default().extend_from_slice(gradient);
        Ok(())
    }

    fn expert_output_gradient(
        &mut self,
        tensor: &str,
        expert: usize,
        experts: usize,
        gradient: &[f32],
        _: usize,
    ) -> Result<(), ObserveError> {
        let all = self.experts.entry(tensor.to_owned()).or_insert_with(|| vec![Vec::new(); experts]);
        all[expert].extend_from_slice(gradient);
        Ok(())
    }

    fn output_variances(&mut self, _: &[f32], _: usize) -> Result<(), ObserveError> {
        Ok(())
    }

    fn embedding_gradient(&mut self, gradient: &[f32], outputs: usize) -> Result<(), ObserveError> {
        self.output_gradient(EMBEDDING, gradient, outputs)
    }

    fn weights(&mut self) -> Option<&mut dyn WeightObserver> {
        Some(&mut self.weights)
    }
}

/// Tokens that mixtures of experts are checked over: of many, some token always chooses other experts when a value is moved.
const ROUTED_TOKENS: usize = 12;

/// The place at which values are moved: after an operation of a layer, or, without an operation, in the rows of the embedding.
#[derive(Clone, Copy)]
struct Place {
    layer: usize,
    op: Option<usize>,
    slot: Slot,
}

/// A model with a chunk of text and its labels.
struct Checked {
    model: Model,
    moved: Arc<MovedWeights>,
    tokens: Vec<u32>,
    /// Random labels, since a model's own predictions may be too certain to have a gradient.
    labels: Vec<u32>,
    /// Numbers of the experts that tokens are routed to, layer by layer.
    choices: Vec<f32>,
}

/// The results of a run.
struct Ran {
    loss: f64,
    choices: Vec<f32>,
    /// Probabilities, `[tokens][vocab]`.
    p: Vec<f32>,
}

impl Checked {
    fn new(folder: &Path) -> Self {
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let mut tokens: Vec<u32> = serde_json::from_value(json["tokens"].clone()).unwrap();
        let mut model = Model::open_to_embed(folder, None).unwrap();
        if model.hyper.experts.is_some() {
            tokens.truncate(ROUTED_TOKENS);
        }
        let moved = Arc::new(MovedWeights::default());
        model.set_overlay(moved.clone());
        let label = |i: usize| (crate::model::draws::uniform(1, i as u64) * model.vocab_size() as f64) as u32;
        let labels = (0..tokens.len()).map(label).collect();
        let checked = Self { model, moved, tokens, labels, choices: Vec::new() };
        let Ran { choices, .. } = checked.run(None, &[]);
        Self { choices, ..checked }
    }

    /// Runs the model, with `moved` added at `place`.
    fn run(&self, place: Option<Place>, moved: &[f32]) -> Ran {
        let mut choices = Vec::new();
        let (model, context) = (&self.model, self.tokens.len());
        let ropes = model.ropes(context).unwrap();
        let mut tile = Tile::new(context);
        let mut rows = model.lookup(&self.tokens, |token, out| model.embedding_row(token, out)).unwrap();
        if place.is_some_and(|place| place.op.is_none()) {
            rows.iter_mut().zip(moved).for_each(|(value, moved)| *value += moved);
        }
        tile.set_rows(model.enter(rows, &self.tokens, 0, context).unwrap(), model.row_widths(0), 0);
        for number in 0..model.hyper.layers {
            let steps = model.layer_steps(number).unwrap();
            let here = place.filter(|place| place.layer == number);
            let add = |tile: &mut Tile, place: Place| {
                let mut values = tile.take(&[place.slot]).remove(0);
                assert_eq!(values.len(), moved.len());
                values.iter_mut().zip(moved).for_each(|(value, moved)| *value += moved);
                tile.set_slot(place.slot, values);
            };
            for (at, op) in model.ops(number).unwrap().iter().enumerate() {
                steps.run_one(at, &mut tile, &mut Positions::of_chunks(&ropes)).unwrap();
                if let Some(place) = here.filter(|place| place.op == Some(at)) {
                    add(&mut tile, place);
                }
                if let Op::Route { .. } = op {
                    let width = tile.width(Slot::Routes);
                    choices.extend(tile.buffer(Slot::Routes).chunks(width).flat_map(|row| &row[..width / 2]));
                }
            }
        }
        let mut head = LossHead::new(model, Labels::Given(&self.labels), context, 1 << 28).unwrap();
        let normed = head.normed(&tile.take_rows());
        let (loss, p) = head.loss_of(&normed);
        Ran { loss, choices, p }
    }

    /// Runs the model with `moved` added to the values of `tensor`.
    fn with(&self, tensor: &str, moved: &[f32]) -> Ran {
        let mapped = self.model.find(tensor).unwrap();
        let mut values = self.model.values(mapped).unwrap();
        values.iter_mut().zip(moved).for_each(|(value, moved)| *value += moved);
        let columns = mapped.columns() as usize;
        *self.moved.0.lock().unwrap() = Some(Moved { tensor: tensor.to_owned(), columns, values });
        let ran = self.run(None, &[]);
        *self.moved.0.lock().unwrap() = None;
        ran
    }

    /// Returns the loss and the gradients of a backward pass.
    fn gradients(&self, labels: Labels) -> (f64, Seen) {
        let mut seen = Seen::default();
        let how = Backward {
            context: self.tokens.len(),
            memory: 1 << 28,
            labels,
            exact: true,
            with_output: false,
            cancel: &AtomicBool::new(false),
            progress: &Silent,
        };
        let loss = self.model.backward(&self.tokens, &how, None, &mut seen).unwrap();
        (loss.sum, seen)
    }

    /// Compares the derivative along some directions with `gradient`, where `run` runs the model with something moved.
    fn check(&self, name: &str, gradient: &[f32], run: impl Fn(&[f32]) -> Ran) {
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-6, "{name}: no gradient");
        let mut compared = 0;
        for seed in 1..=DIRECTIONS {
            // The entries are 1 or -1, so that the derivative is usually as large as the gradient's norm.
            let direction: Vec<f32> = (0..gradient.len()).map(|i| noise(i as u64, seed)).collect();
            let expected: f64 =
                gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let slope = |step: f64| {
                let at = |step: f64| {
                    let moved: Vec<f32> = direction.iter().map(|d| d * step as f32).collect();
                    let Ran { loss, choices, .. } = run(&moved);
                    (choices == self.choices).then_some(loss)
                };
                Some((at(step)? - at(-step)?) / (2.0 * step))
            };
            // The step must be larger where logits are large, and smaller where the loss curves or another expert would be
            // chosen. Where only smaller ones leave the choice alone, the rounding error of the loss may be larger than what it
            // changes by, and a direction that they contradict decides nothing.
            let (mut errors, mut decides) = (Vec::new(), false);
            for part in [1.0, 4.0, 0.25, 0.0625] {
                let step = part * CHANGE / norm;
                let found = slope(step).zip(slope(2.0 * step)).map(|(one, two)| (4.0 * one - two) / 3.0);
                decides |= found.is_some() && part >= 1.0;
                errors.extend(found.map(|found| (found - expected).abs() / norm));
                if errors.last().is_some_and(|error| *error < TOLERANCE) {
                    compared += 1;
                    errors.clear();
                    break;
                }
            }
            assert!(
                !decides || errors.is_empty(),
                "{name}: {expected}, differences are off by {errors:?} of {norm}"
            );
            if compared == 2 {
                return;
            }
        }
        unreachable!("{name}: only {compared} directions leave the choice of experts alone");
    }

    /// Returns true for a router by SparseMixer, whose weights are 1 but for logits that are nearly alike, and jump where one ceases to
    /// be near the best: steps that the loss shows go past that. The function itself has a test of its gradient (`sparse_mixer.rs`).
    fn jumps(&self, tensor: &str) -> bool {
        self.model.graph.routing.scores == Some(Scores::SparseMixer) && tensor.contains(".ffn_gate_inp.")
    }

    /// Arranges the gradients of a tensor of several matrices as `[tokens][parts][outputs]`.
    fn spread(&self, layer: usize, op: usize, experts: &[Vec<f32>]) -> Vec<f32> {
        let (model, context) = (&self.model, self.tokens.len());
        let ropes = model.ropes(context).unwrap();
        let mut tile = Tile::new(context);
        tile.set_rows(model.embed(&self.tokens, 0, context).unwrap(), model.row_widths(0), 0);
        for number in 0..=layer {
            let end = if number == layer { op } else { model.ops(number).unwrap().len() };
            let steps = model.steps(number, 0..end, None).unwrap();
            steps.run(&mut tile, &mut Positions::of_chunks(&ropes), &mut None).unwrap();
        }
        let matrices = experts.len();
        let assignment = match model.ops(layer).unwrap()[op].map().unwrap().by.unwrap() {
            By::Heads => Assignment::Heads { matrices },
            By::Routes => {
                let used = model.hyper.experts.as_ref().unwrap().used;
                Assignment::Experts { matrices, routes: Routes::new(tile.buffer(Slot::Routes), used) }
            }
        };
        let rows = assignment.rows(0..context);
        let outputs = experts.iter().map(Vec::len).sum::<usize>() / rows.iter().map(Vec::len).sum::<usize>();
        let parts = assignment.parts();
        let mut out = vec![0.0; context * parts * outputs];
        for (rows, gradient) in rows.iter().zip(experts) {
            for (&RowPart { token, part }, gradient) in rows.iter().zip(gradient.chunks(outputs)) {
                out[(token * parts + part) * outputs..][..outputs].copy_from_slice(gradient);
            }
        }
        out
    }
}

/// Returns 1 or -1.
fn noise(i: u64, seed: u64) -> f32 {
    if crate::model::draws::uniform(seed + 100, i) < 0.5 { -1.0 } else { 1.0 }
}

fn check_folder(folder: &Path) {
    let name = folder.file_name().unwrap().to_string_lossy();
    let checked = Checked::new(folder);
    let (loss, seen) = checked.gradients(Labels::Given(&checked.labels));
    let expected = checked.run(None, &[]).loss;
    assert!((loss - expected).abs() < 1e-6 * expected, "{name}: {loss} {expected}");
    let place = Place { layer: 0, op: None, slot: Slot::Stream };
    checked.check(&format!("{name} {EMBEDDING}"), &seen.gradients[EMBEDDING], |moved| {
        checked.run(Some(place), moved)
    });
    let mut checks = 1;
    for layer in 0..checked.model.hyper.layers {
        for (at, op) in checked.model.ops(layer).unwrap().iter().enumerate() {
            let Some(map) = op.map() else { continue };
            let tensor = weight_name(layer, map.name);
            let place = Place { layer, op: Some(at), slot: map.output };
            let gradient = match op {
                Op::Matrices { .. } => &checked.spread(layer, at, &seen.experts[&tensor]),
                _ => &seen.gradients[&tensor],
            };
            checks += 1;
            if !checked.jumps(&tensor) {
                checked.check(&format!("{name} {tensor}"), gradient, |moved| checked.run(Some(place), moved));
            }
        }
    }
    assert_eq!(checks, seen.gradients.len() + seen.experts.len(), "{name}: each once");
    let mut trainable: Vec<String> =
        checked.model.trainable().into_iter().map(|(tensor, _)| tensor).collect();
    trainable.sort();
    assert_eq!(trainable, seen.weights.0.keys().map(String::clone).collect::<Vec<_>>(), "{name}");
    for (tensor, gradient) in seen.weights.0.iter().filter(|(tensor, _)| !checked.jumps(tensor)) {
        let gradient: Vec<f32> = gradient.iter().map(|&g| g as f32).collect();
        // Keys are blind to a shift: the gradient of their bias is a rounding error.
        if gradient.iter().all(|g| g.abs() < 1e-5) {
            assert!(tensor.ends_with("attn_k.bias"), "{name} {tensor}: no gradient");
            continue;
        }
        checked.check(&format!("{name} {tensor}, weights"), &gradient, |moved| checked.with(tensor, moved));
    }
}

#[test]
fn gradients_are_differences_of_the_loss() {
    let [supported, _] = archs::supported_and_pending();
    // Most of one folder's passes are too small for more than one thread.
    supported.par_iter().for_each(|folder| check_folder(folder));
}

/// Encoders predict no tokens, but their states times the embedding are a function of everything that they compute.
#[test]
fn gradients_are_differences_of_the_loss_of_states() {
    archs::embedding_models().par_iter().for_each(|folder| check_folder(folder));
}

/// With drawn labels, the KL divergence that noise in a layer's output causes is half of the noise's variance times the
/// squared norm of the gradients. Both are averages, over noise and over labels, that are accurate to some tenths.
#[test]
fn drawn_labels_give_the_curvature_of_the_divergence() {
    const TIMES: u64 = 24;
    /// Divergence that the noise should cause in all tokens together, in nats.
    const DIVERGENCE: f64 = 0.02;
    let checked = Checked::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/archs/llama"));
    let square =
        |seen: &Seen, tensor: &str| seen.gradients[tensor].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let drawn: Vec<Seen> =
        (0..TIMES).map(|seed| checked.gradients(Labels::Drawn { seed, first_token: 0 }).1).collect();
    let base = checked.run(None, &[]).p;
    for (layer, op, tensor) in
        [(0, "attn_v", "blk.0.attn_v.weight"), (1, "ffn_down", "blk.1.ffn_down.weight")]
    {
        let squares = drawn.iter().map(|seen| square(seen, tensor)).sum::<f64>() / TIMES as f64;
        let step = (2.0 * DIVERGENCE / squares).sqrt();
        let is = |o: &Op| o.map().is_some_and(|map| map.name == op);
        let at = checked.model.ops(layer).unwrap().iter().position(is).unwrap();
        let slot = checked.model.ops(layer).unwrap()[at].map().unwrap().output;
        let length = drawn[0].gradients[tensor].len();
        let divergence = |seed: u64| {
            let moved: Vec<f32> = (0..length).map(|i| noise(i as u64, seed) * step as f32).collect();
            let p = checked.run(Some(Place { layer, op: Some(at), slot }), &moved).p;
            base.iter()
                .zip(&p)
                .map(|(p, q)| f64::from(*p) * (f64::from(*p) / f64::from(*q)).ln())
                .sum::<f64>()
        };
        let found = (0..TIMES).map(divergence).sum::<f64>() / TIMES as f64;
        assert!((found / DIVERGENCE).ln().abs() < 0.25, "{tensor}: {found}, expected {DIVERGENCE}");
    }
}
