//! Linear maps with several matrices in one tensor: experts that tokens are routed to, or one matrix per head.

use kquant_kernels::math;

use super::{LinearWork, Operation, Recorded, Step};
use crate::graph::{By, Slot, weight_name};
use crate::model::backward::{Reverse, check, copied};
use crate::model::check::Shapes;
use crate::model::matrix::Matrix;
use crate::model::routed::{Assignment, Routes, RowParts};
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;
use crate::model::{Model, ModelError, Observer};
use crate::tensor::TensorName;
use crate::text::block_tokens;

/// The operation that multiplies each part of `input` by the matrix that it is routed to and so gives a part of `output`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrices {
    pub input: Slot,
    pub output: Slot,
    pub name: &'static str,
    pub by: By,
}

impl Operation for Matrices {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        shapes.check_map(self.name, self.input, self.output, Some(self.by))
    }

    fn work(&self, model: &Model, layer: usize) -> Result<LinearWork, ModelError> {
        let name = weight_name(layer, self.name);
        let tensor = model.tensor(&name)?;
        let times = match self.by {
            By::Heads => tensor.matrices(),
            By::Routes => model.experts(&name)?.used as u64,
        };
        Ok(LinearWork::of(times, tensor.rows_per_matrix(), tensor.columns()))
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let tensor = weight_name(source.layer, self.name);
        let used = match self.by {
            By::Heads => None,
            By::Routes => Some(source.model.experts(&tensor)?.used),
        };
        let count = source.model.tensor(&tensor)?.matrices() as usize;
        let matrices = (0..count).map(|matrix| source.matrix(self.name, matrix));
        let matrices = matrices.collect::<Result<Vec<_>, _>>()?;
        let [inputs, outputs] = match matrices.first() {
            Some(first) => [first.inputs(), first.outputs()],
            None => return Err(ModelError::Tensor { tensor, what: "holds no matrix".into() }),
        };
        let (input, output) = (self.input, self.output);
        Ok(Box::new(MatricesStep { input, output, tensor, matrices, inputs, outputs, used }))
    }
}

#[derive(Debug)]
struct MatricesStep {
    input: Slot,
    output: Slot,
    /// GGUF name of the weight.
    tensor: String,
    matrices: Vec<Matrix>,
    /// Columns of each matrix.
    inputs: usize,
    /// Rows of each matrix.
    outputs: usize,
    /// Number of experts that a token is routed to; `None` where matrices belong to heads.
    used: Option<usize>,
}

impl MatricesStep {
    /// Returns the assignment of rows to matrices, where `routes` is the content of [`Slot::Routes`].
    fn assignment<'a>(&self, routes: &'a [f32]) -> Assignment<'a> {
        let matrices = self.matrices.len();
        match self.used {
            None => Assignment::Heads { matrices },
            Some(used) => Assignment::Experts { matrices, routes: Routes::new(routes, used) },
        }
    }

    /// Fills `out` `[tokens][parts][outputs]` with each part of a row times its matrix.
    fn apply(&self, tile: &Tile, out: &mut Vec<f32>) {
        let assignment = self.assignment(tile.buffer(Slot::Routes));
        let (outputs, parts) = (self.outputs, assignment.parts());
        out.resize(tile.tokens() * parts * outputs, 0.0);
        let x = self.read(tile);
        let rows = assignment.rows(0..tile.tokens());
        let mut y = Vec::new();
        for (matrix, rows) in self.matrices.iter().zip(&rows).filter(|(_, rows)| !rows.is_empty()) {
            matrix.apply(tile.context(), &x.gather(rows), &mut y);
            for (y, row) in y.chunks_exact(outputs).zip(rows) {
                out[(row.token * parts + row.part) * outputs..][..outputs].copy_from_slice(y);
            }
        }
    }

    fn read<'a>(&self, tile: &'a Tile) -> RowParts<'a> {
        RowParts { values: tile.buffer(self.input), width: tile.width(self.input), columns: self.inputs }
    }
}

impl Step for MatricesStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        tile.with_output(self.output, |tile, out| self.apply(tile, out));
        tile.check(self.output, &self.tensor)
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let routes = self.used.map(|_| copied(tile.buffer(Slot::Routes))).unwrap_or_default();
        Box::new(MatricesRecord { step: self, routes, width: tile.width(self.input), x: None })
    }

    fn record_for_weights(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let routes = self.used.map(|_| copied(tile.buffer(Slot::Routes))).unwrap_or_default();
        let x = Some(copied(tile.buffer(self.input)));
        Box::new(MatricesRecord { step: self, routes, width: tile.width(self.input), x })
    }

    fn needs_tile(&self) -> bool {
        true
    }

    /// Shows the observer one block of text at a time.
    fn observe(&self, tile: &Tile, names: &[&str], observer: &mut dyn Observer) -> Result<(), ModelError> {
        let block = block_tokens(tile.context());
        let assignment = self.assignment(tile.buffer(Slot::Routes));
        for first in (0..tile.tokens()).step_by(block) {
            let inputs = assignment.inputs(self.read(tile), first..tile.tokens().min(first + block));
            for (matrix, x) in inputs.iter().enumerate() {
                observer.expert_input(names, matrix, self.matrices.len(), x, self.inputs)?;
            }
        }
        Ok(())
    }

    fn linear_weights(&self) -> usize {
        self.matrices.iter().map(Matrix::weights).sum()
    }
}

struct MatricesRecord<'a> {
    step: &'a MatricesStep,
    /// Content of [`Slot::Routes`]; empty where matrices belong to heads.
    routes: Vec<f32>,
    /// Width of the input slot.
    width: usize,
    /// Content of the input slot, if gradients of weights are wanted.
    x: Option<Vec<f32>>,
}

impl MatricesRecord<'_> {
    /// Shows the observer the gradient of each matrix's output, one block of text at a time.
    fn observe(
        &self,
        assignment: Assignment,
        gradient: RowParts,
        reverse: &mut Reverse,
    ) -> Result<(), ModelError> {
        let block = block_tokens(reverse.context);
        let MatricesStep { tensor, matrices, outputs, .. } = self.step;
        for first in (0..reverse.tokens).step_by(block) {
            let inputs = assignment.inputs(gradient, first..reverse.tokens.min(first + block));
            for (matrix, rows) in inputs.iter().enumerate() {
                reverse.observer.expert_output_gradient(tensor, matrix, matrices.len(), rows, *outputs)?;
            }
        }
        Ok(())
    }

    /// Shows the observer of weights what each matrix read and the gradient of its output.
    fn show(&self, assignment: Assignment, gradient: RowParts, reverse: &mut Reverse) {
        let MatricesStep { tensor, matrices, inputs, outputs, .. } = self.step;
        let (Some(observer), Some(x)) = (reverse.observer.weights(), &self.x) else { return };
        let x = RowParts { values: x, width: self.width, columns: *inputs };
        let all = assignment.rows(0..reverse.tokens);
        for (number, (matrix, rows)) in matrices.iter().zip(&all).enumerate() {
            let gradient = gradient.gather(rows);
            observer.product(tensor, number * outputs, &gradient, &x.gather(rows), *inputs);
            if matrix.has_bias() {
                observer.columns(&TensorName(tensor).bias(), number * outputs, &gradient, *outputs);
            }
        }
    }

    /// Returns the gradient of the input of all matrices, `[tokens][width]`. Matrices are added in their order.
    fn input_gradient(&self, assignment: Assignment, gradient: RowParts, reverse: &Reverse) -> Vec<f32> {
        let (inputs, tokens) = (self.step.inputs, reverse.tokens);
        let mut out = vec![0.0; tokens * self.width];
        let all = assignment.rows(0..tokens);
        let mut x = Vec::new();
        for (matrix, rows) in self.step.matrices.iter().zip(&all).filter(|(_, rows)| !rows.is_empty()) {
            x.clear();
            x.resize(rows.len() * inputs, 0.0);
            matrix.gradient(reverse.context, &gradient.gather(rows), &mut x);
            for (x, &row) in x.chunks_exact(inputs).zip(rows) {
                let at = RowParts::place(self.width, inputs, row);
                math::add(&mut out[at..at + inputs], x);
            }
        }
        out
    }
}

impl Recorded for MatricesRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let MatricesStep { input, output, tensor, outputs, .. } = self.step;
        let assignment = self.step.assignment(&self.routes);
        let width = assignment.parts() * outputs;
        let gradient = reverse.take_or_zeros(*output, width);
        check(tensor, &gradient, width, reverse.first)?;
        let parts = RowParts { values: &gradient, width, columns: *outputs };
        self.observe(assignment, parts, reverse)?;
        self.show(assignment, parts, reverse);
        let out = self.input_gradient(assignment, parts, reverse);
        reverse.gradients.add(*input, out);
        Ok(())
    }
}
