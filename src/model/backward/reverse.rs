//! The operations of a layer, walked backwards.

use super::super::ModelError;
use super::super::ops::Recorded;
use super::super::rope::Ropes;
use super::super::tile::first_non_finite;
use super::gradients::Gradients;
use crate::graph::Slot;
use crate::model::GradientObserver;

/// Rows that one task takes.
pub(in crate::model) const ROWS: usize = 64;

/// One tile of chunks on its way back through one layer.
pub(in crate::model) struct Reverse<'a> {
    /// Rotations by position.
    pub ropes: &'a Ropes,
    /// Tokens per chunk.
    pub context: usize,
    /// Tokens of the tile.
    pub tokens: usize,
    /// Number of the first token, for messages.
    pub first: usize,
    /// Gradients of what the slots hold at the present place.
    pub gradients: Gradients,
    /// Sees the gradients of the outputs of linear maps.
    pub observer: &'a mut dyn GradientObserver,
}

impl Reverse<'_> {
    /// Walks the operations of layer `layer` backwards: takes the gradient of the stream after it to that before it, both
    /// `[tokens][hidden]`.
    pub(super) fn run(
        mut self,
        layer: usize,
        tape: Vec<Box<dyn Recorded + '_>>,
        gradient: Vec<f32>,
    ) -> Result<Vec<f32>, ModelError> {
        self.gradients.add(Slot::Stream, gradient);
        for recorded in tape.into_iter().rev() {
            recorded.backward(&mut self)?;
        }
        let lost = || ModelError::Graph { layer, what: "does not read the stream".into() };
        self.gradients.take(Slot::Stream).ok_or_else(lost)
    }

    /// The gradient of what `slot`, `width` wide, holds; zeros where nothing that follows reads it.
    pub(in crate::model) fn take_or_zeros(&mut self, slot: Slot, width: usize) -> Vec<f32> {
        self.gradients.take(slot).unwrap_or_else(|| vec![0.0; self.tokens * width])
    }
}

/// Checks the gradient of the output of `tensor`, whose rows are `width` wide and start at token `first`.
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
