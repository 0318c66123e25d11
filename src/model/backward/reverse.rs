//! The backward walk over the operations of a layer.

use super::super::ModelError;
use super::super::ops::Recorded;
use super::super::rope::Ropes;
use super::super::tile::{first_non_finite, join_rows};
use super::gradients::Gradients;
use crate::graph::Slot;
use crate::model::GradientObserver;

/// Number of rows that one task processes.
pub(in crate::model) const ROWS: usize = 64;

/// The backward pass of one tile of chunks through one layer.
pub(in crate::model) struct Reverse<'a> {
    /// Rotations by position.
    pub ropes: &'a Ropes,
    /// Tokens per chunk.
    pub context: usize,
    /// Number of tokens of the tile.
    pub tokens: usize,
    /// Number of the tile's first token in the text, for messages.
    pub first: usize,
    /// Gradients of the slots' contents at the current operation.
    pub gradients: Gradients,
    /// Observer of the gradients of linear maps' outputs.
    pub observer: &'a mut dyn GradientObserver,
}

impl Reverse<'_> {
    /// Walks the operations of layer `layer` backwards, from the gradients of the stream after the layer, `[tokens][hidden]`, and of what
    /// is carried beside it, to the gradient of the rows before the layer.
    pub(super) fn run(
        mut self,
        (layer, carried_before): (usize, usize),
        tape: Vec<Box<dyn Recorded + '_>>,
        [stream, carried]: [Vec<f32>; 2],
    ) -> Result<Vec<f32>, ModelError> {
        self.gradients.add(Slot::Stream, stream);
        if !carried.is_empty() {
            self.gradients.add(Slot::Carried, carried);
        }
        for recorded in tape.into_iter().rev() {
            recorded.backward(&mut self)?;
        }
        let lost = || ModelError::Graph { layer, what: "does not read the stream".into() };
        let stream = self.gradients.take(Slot::Stream).ok_or_else(lost)?;
        let carried = self.take_or_zeros(Slot::Carried, carried_before);
        Ok(join_rows(stream, &carried, self.tokens))
    }

    /// Takes the gradient of the content of `slot`, which is `width` wide; zeros where no later operation reads it.
    pub(in crate::model) fn take_or_zeros(&mut self, slot: Slot, width: usize) -> Vec<f32> {
        self.gradients.take(slot).unwrap_or_else(|| vec![0.0; self.tokens * width])
    }
}

/// Checks that the gradient of the output of `tensor`, `[tokens][width]` from token `first` on, is finite.
pub(in crate::model) fn check(
    tensor: &str,
    gradient: &[f32],
    width: usize,
    first: usize,
) -> Result<(), ModelError> {
    match first_non_finite(gradient) {
        None => Ok(()),
        Some(at) => Err(ModelError::Gradient {
            tensor: tensor.to_owned(),
            token: first + at / width.max(1),
            value: gradient[at],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_named() {
        let mut gradient = vec![0.5; 40];
        assert!(check("t", &gradient, 4, 100).is_ok());
        gradient[30] = f32::NEG_INFINITY;
        let error = check("blk.3.ffn_up.weight", &gradient, 4, 100).unwrap_err().to_string();
        let expected =
            "tensor `blk.3.ffn_up.weight`: the gradient of its output for token 107 of the text is -inf";
        assert!(error.contains(expected), "{error}");
    }
}
