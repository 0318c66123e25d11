//! Linear maps of one matrix. Observers see their inputs, and quantization changes their weights.

use super::{LinearWork, Operation, Recorded, Step};
use crate::graph::{Op, Slot, weight_name};
use crate::model::backward::{Reverse, check, copied};
use crate::model::check::Shapes;
use crate::model::matrix::Matrix;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;
use crate::model::{Model, ModelError, Observer};
use crate::tensor::TensorName;

/// The operation `output = input * weight' + bias`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linear {
    pub input: Slot,
    pub output: Slot,
    pub name: &'static str,
}

impl Operation for Linear {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        shapes.check_map(self.name, self.input, self.output, None)
    }

    fn work(&self, model: &Model, layer: usize) -> Result<LinearWork, ModelError> {
        let tensor = model.tensor(&weight_name(layer, self.name))?;
        Ok(LinearWork::of(1, tensor.rows_per_matrix(), tensor.columns()))
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(Box::new(self.read(source)?))
    }
}

impl Linear {
    fn read(&self, source: &WeightSource) -> Result<LinearStep, ModelError> {
        Ok(LinearStep {
            input: self.input,
            output: self.output,
            tensor: weight_name(source.layer, self.name),
            matrix: source.matrix(self.name, 0)?,
        })
    }
}

/// A linear map with its weights.
#[derive(Debug)]
pub(in crate::model) struct LinearStep {
    input: Slot,
    output: Slot,
    /// GGUF name of the weight.
    tensor: String,
    matrix: Matrix,
}

impl LinearStep {
    /// Reads the weights of `op`, which must be a linear map of one matrix.
    pub(in crate::model) fn read(op: &Op, source: &WeightSource) -> Result<Self, ModelError> {
        match *op {
            Op::Linear { input, output, name } => Linear { input, output, name }.read(source),
            _ => {
                let what = format!("has {op:?} in the place of a linear map of one matrix");
                Err(ModelError::Graph { layer: source.layer, what })
            }
        }
    }

    /// Computes `x * weight'` without the bias over chunks of `context` rows, from `x` `[rows][inputs]` to
    /// `[rows][outputs]`.
    pub(in crate::model) fn multiply(&self, context: usize, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.matrix.multiply(context, x, &mut out);
        out
    }
}

impl Step for LinearStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        tile.with_output(self.output, |tile, out| {
            self.matrix.apply(tile.context(), tile.buffer(self.input), out);
        });
        tile.check(self.output, &self.tensor)
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(LinearRecord { step: self, x: None })
    }

    fn record_for_weights(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(LinearRecord { step: self, x: Some(copied(tile.buffer(self.input))) })
    }

    fn observe(&self, tile: &Tile, names: &[&str], observer: &mut dyn Observer) -> Result<(), ModelError> {
        Ok(observer.linear_input(names, tile.buffer(self.input), self.matrix.inputs())?)
    }

    fn linear_weights(&self) -> usize {
        self.matrix.weights()
    }
}

struct LinearRecord<'a> {
    step: &'a LinearStep,
    /// Input of the map, `[tokens][inputs]`, if the gradient of its weight is wanted.
    x: Option<Vec<f32>>,
}

impl Recorded for LinearRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let LinearStep { input, output, tensor, matrix } = self.step;
        let (inputs, outputs) = (matrix.inputs(), matrix.outputs());
        let gradient = reverse.take_or_zeros(*output, outputs);
        check(tensor, &gradient, outputs, reverse.first)?;
        reverse.observer.output_gradient(tensor, &gradient, outputs)?;
        if let (Some(observer), Some(x)) = (reverse.observer.weights(), &self.x) {
            observer.product(tensor, 0, &gradient, x, inputs);
            if matrix.has_bias() {
                observer.columns(&TensorName(tensor).bias(), 0, &gradient, outputs);
            }
        }
        let mut out = vec![0.0; reverse.tokens * inputs];
        matrix.gradient(reverse.context, &gradient, &mut out);
        reverse.gradients.add(*input, out);
        Ok(())
    }
}
