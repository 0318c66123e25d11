//! The activation function of the feed-forward network, and gates.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::{Activation, GATE_LIMIT, GateFunction, KeyError, Slot, XIELU};
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

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let plain = |f, gradient| Box::new(UpStep { f: Function::Plain { f, gradient } });
        Ok(match self.0 {
            Activation::SiluGate => Box::new(GateStep::of_feed_forward(Gate::Silu)),
            Activation::GeluGate => Box::new(GateStep::of_feed_forward(Gate::Gelu)),
            Activation::GeluErfGate => Box::new(GateStep::of_feed_forward(Gate::GeluErf)),
            Activation::ClampedGate => Box::new(GateStep::of_feed_forward(Gate::Clamped)),
            Activation::ReluSquaredGate => Box::new(GateStep::of_feed_forward(Gate::ReluSquared)),
            Activation::Gelu => plain(math::gelu_tanh, math::gelu_tanh_gradient),
            Activation::GeluErf => plain(math::gelu_erf, math::gelu_erf_gradient),
            Activation::ReluSquared => plain(math::relu_squared, math::relu_squared_gradient),
            Activation::Xielu => {
                let numbers = source.model.hyper.xielu.get(source.layer).copied();
                let missing = || KeyError {
                    key: format!("{XIELU}alpha_p"),
                    what: format!("has no number for layer {}", source.layer),
                };
                let by = math::Xielu::new(numbers.ok_or_else(missing)?);
                Box::new(UpStep { f: Function::Xielu(by) })
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
        if shapes.width(slot) != shapes.width(gate) {
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

/// A function of each value, with its gradient.
#[derive(Debug, Clone, Copy)]
enum Function {
    /// One without further numbers. `gradient` replaces the gradient of the output by that of the input, given the input.
    Plain { f: fn(&mut [f32]), gradient: fn(&mut [f32], &[f32]) },
    /// xIELU with the numbers of a layer.
    Xielu(math::Xielu),
}

/// An activation that is a function of [`Slot::Up`].
#[derive(Debug, Clone, Copy)]
struct UpStep {
    f: Function,
}

impl Step for UpStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let width = tile.width(Slot::Up);
        let rows = tile.buffer_mut(Slot::Up).par_chunks_mut(width);
        match self.f {
            Function::Plain { f, .. } => rows.for_each(f),
            Function::Xielu(by) => rows.for_each(|row| math::xielu(row, by)),
        }
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
            rows.for_each(|(d_up, up)| match self.step.f {
                Function::Plain { gradient, .. } => gradient(d_up, up),
                Function::Xielu(by) => math::xielu_gradient(d_up, up, by),
            });
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
    GeluErf,
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
            Self::GeluErf => math::gelu_erf_gate(gate, up),
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
            Self::GeluErf => math::gelu_erf_gate_gradient(d_gate, d_up, gate, up),
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
            false => copied(tile.buffer(self.gate)),
        };
        for_blocks(tile.context(), (tile.buffer(self.up), width), (&mut out, width), |up, gate| {
            self.function.apply(gate, up);
        });
        tile.set_slot(self.output, out);
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let [gate, up] = [self.gate, self.up].map(|slot| copied(tile.buffer(slot)));
        Box::new(GateRecord { step: *self, gate, up })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct GateRecord {
    step: GateStep,
    gate: Vec<f32>,
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
        reverse.gradients.add(self.step.gate, gradient);
        reverse.gradients.add(self.step.up, d_up);
        Ok(())
    }
}
