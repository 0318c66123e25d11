//! The activation function of the feed-forward network, and gates.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::{Activation, GATE_LIMIT, GateFunction, Slot};
use crate::model::ModelError;
use crate::model::backward::{ROWS, Reverse, copied};
use crate::model::check::{Shapes, wrong};
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;
use crate::text::for_blocks;

/// The activation: the gate times up, or up alone, computed in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activate(pub Activation);

impl Operation for Activate {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        if self.0.is_gate() && shapes.found_width(Slot::Gate) != shapes.found_width(Slot::Up) {
            return Err(wrong(&shapes.weight_name("ffn_gate"), "has not as many rows as ffn_up"));
        }
        Ok(())
    }

    fn bind(&self, _: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(match self.0 {
            Activation::SiluGate => Box::new(GateStep::of_feed_forward(Gate::Silu)),
            Activation::GeluGate => Box::new(GateStep::of_feed_forward(Gate::Gelu)),
            Activation::ClampedGate => Box::new(GateStep::of_feed_forward(Gate::Clamped)),
            Activation::ReluSquaredGate => Box::new(GateStep::of_feed_forward(Gate::ReluSquared)),
            Activation::Gelu => Box::new(UpStep { f: math::gelu_tanh, gradient: math::gelu_tanh_gradient }),
            Activation::GeluErf => Box::new(UpStep { f: math::gelu_erf, gradient: math::gelu_erf_gradient }),
            Activation::ReluSquared => {
                Box::new(UpStep { f: math::relu_squared, gradient: math::relu_squared_gradient })
            }
        })
    }
}

/// The operation `slot = f(gate) * slot`.
#[derive(Debug, Clone, Copy)]
pub(super) struct GateBy {
    pub slot: Slot,
    pub gate: Slot,
    pub function: GateFunction,
}

impl Operation for GateBy {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let Self { slot, gate, .. } = *self;
        if shapes.width(slot) != shapes.width(gate) && shapes.width(gate) != Some(1) {
            return Err(shapes.graph_error(format!("multiplies {slot:?} by {gate:?} of another width")));
        }
        Ok(())
    }

    fn bind(&self, _: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let function = match self.function {
            GateFunction::Same => Gate::Same,
            GateFunction::Sigmoid => Gate::Sigmoid,
            GateFunction::Silu => Gate::Silu,
        };
        Ok(Box::new(GateStep { function, gate: self.gate, up: self.slot, output: self.slot }))
    }
}

/// An activation that is a function of [`Slot::Up`].
#[derive(Debug, Clone, Copy)]
struct UpStep {
    f: fn(&mut [f32]),
    /// Replaces the gradient of the output by that of the input, given the input.
    gradient: fn(&mut [f32], &[f32]),
}

impl Step for UpStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let width = tile.width(Slot::Up);
        tile.buffer_mut(Slot::Up).par_chunks_mut(width).for_each(self.f);
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(UpRecord { step: *self, up: copied(tile.buffer(Slot::Up)) })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct UpRecord {
    step: UpStep,
    up: Vec<f32>,
}

impl Recorded for UpRecord {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(mut gradient) = reverse.gradients.take(Slot::Up) {
            let step = ROWS * (gradient.len() / reverse.tokens).max(1);
            let rows = gradient.par_chunks_mut(step).zip(self.up.par_chunks(step));
            rows.for_each(|(gradient, up)| (self.step.gradient)(gradient, up));
            reverse.gradients.add(Slot::Up, gradient);
        }
        Ok(())
    }
}

/// A function of a gate times a function of what it gates.
#[derive(Debug, Clone, Copy)]
enum Gate {
    Same,
    Sigmoid,
    Silu,
    Gelu,
    Clamped,
    ReluSquared,
}

impl Gate {
    fn apply(self, gate: &mut [f32], up: &[f32]) {
        match self {
            Self::Same => gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up),
            Self::Sigmoid => math::sigmoid_gate(gate, up),
            Self::Silu => math::silu_gate(gate, up),
            Self::Gelu => math::gelu_gate(gate, up),
            Self::ReluSquared => math::relu_squared_gate(gate, up),
            Self::Clamped => math::clamped_gate(gate, up, GATE_LIMIT),
        }
    }

    /// Replaces `d_gate`, the gradient of the output, by that of the gate, and fills `d_up` with that of up.
    fn gradient(self, d_gate: &mut [f32], d_up: &mut [f32], gate: &[f32], up: &[f32]) {
        match self {
            Self::Same => {
                for (((d_gate, d_up), gate), up) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up) {
                    (*d_gate, *d_up) = (*d_gate * up, *d_gate * gate);
                }
            }
            Self::Sigmoid => math::sigmoid_gate_gradient(d_gate, d_up, gate, up),
            Self::Silu => math::silu_gate_gradient(d_gate, d_up, gate, up),
            Self::Gelu => math::gelu_gate_gradient(d_gate, d_up, gate, up),
            Self::ReluSquared => math::relu_squared_gate_gradient(d_gate, d_up, gate, up),
            Self::Clamped => math::clamped_gate_gradient(d_gate, d_up, gate, up, GATE_LIMIT),
        }
    }
}

/// The step `output = function(gate, up)`, where the output is one of the two.
#[derive(Debug, Clone, Copy)]
struct GateStep {
    function: Gate,
    gate: Slot,
    up: Slot,
    output: Slot,
}

impl GateStep {
    /// Returns the step of a gated feed-forward network, whose output takes the place of the gate.
    fn of_feed_forward(function: Gate) -> Self {
        Self { function, gate: Slot::Gate, up: Slot::Up, output: Slot::Gate }
    }
}

impl Step for GateStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let width = tile.width(self.up);
        let mut out = match self.output == self.gate {
            true => tile.take_slot(self.gate),
            false => widened(tile.buffer(self.gate), width / tile.width(self.gate)),
        };
        for_blocks(tile.context(), (tile.buffer(self.up), width), (&mut out, width), |up, gate| {
            self.function.apply(gate, up);
        });
        tile.set_slot(self.output, out);
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let up = copied(tile.buffer(self.up));
        let repeats = tile.width(self.up) / tile.width(self.gate).max(1);
        Box::new(GateRecord { step: *self, gate: widened(tile.buffer(self.gate), repeats), repeats, up })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

/// Returns `x` with each value `repeats` times.
fn widened(x: &[f32], repeats: usize) -> Vec<f32> {
    match repeats {
        1 => copied(x),
        _ => x.iter().flat_map(|&x| std::iter::repeat_n(x, repeats)).collect(),
    }
}

struct GateRecord {
    step: GateStep,
    /// The gate, as wide as what it gates.
    gate: Vec<f32>,
    /// Number of neighbouring values that are one value of the gate.
    repeats: usize,
    up: Vec<f32>,
}

impl Recorded for GateRecord {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let Some(mut gradient) = reverse.gradients.take(self.step.output) else { return Ok(()) };
        let step = ROWS * (gradient.len() / reverse.tokens).max(1);
        let mut d_up = vec![0.0; gradient.len()];
        let rows = gradient.par_chunks_mut(step).zip(d_up.par_chunks_mut(step));
        let rows = rows.zip(self.gate.par_chunks(step)).zip(self.up.par_chunks(step));
        rows.for_each(|(((d_gate, d_up), gate), up)| {
            self.step.function.gradient(d_gate, d_up, gate, up);
        });
        if self.repeats > 1 {
            gradient = gradient.chunks_exact(self.repeats).map(|values| values.iter().sum()).collect();
        }
        reverse.gradients.add(self.step.gate, gradient);
        reverse.gradients.add(self.step.up, d_up);
        Ok(())
    }
}
