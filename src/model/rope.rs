//! Tables of the rotations of rotary position embedding.

use kquant_kernels::math::{Rope, frequencies};

use crate::graph::Op;
use crate::model::{Model, ModelError};

const FACTORS: &str = "rope_freqs.weight";
const LONG_FACTORS: &str = "rope_factors_long.weight";
const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// The rotations of a range of positions.
#[derive(Debug)]
pub(crate) struct Ropes {
    all: Rope,
    /// Rotations in layers with a window, if they differ from those of the other layers.
    window: Option<Rope>,
}

/// The part of the text that queries of a layer see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Queries see all of the text before them.
    All,
    /// Queries see a window of the text before them.
    Window,
}

impl Ropes {
    /// Returns the rotations in layers of reach `reach`.
    pub(super) fn of(&self, reach: Reach) -> &Rope {
        match (&self.window, reach) {
            (Some(rope), Reach::Window) => rope,
            _ => &self.all,
        }
    }
}

impl Model {
    /// Computes the rotations of positions `0..positions`.
    pub(super) fn ropes(&self, positions: usize) -> Result<Ropes, ModelError> {
        let (hyper, keys) = (&self.hyper, &self.hyper.rope);
        let turns = self.layers.iter().flatten().any(|op| matches!(op, Op::Rope { .. }));
        // A model without positions may have any context: no table is made of it.
        let positions = if turns { positions } else { 0 };
        let rope = |angles: &[f64], length| Rope::new(angles, positions, self.graph.pairs, length);
        let base = f64::from(keys.base);
        let angles = match &keys.yarn {
            Some(yarn) => yarn.frequencies(base, hyper.rotary),
            None => {
                let name = match self.find(LONG_FACTORS) {
                    Some(_) if positions > keys.original => LONG_FACTORS,
                    Some(_) => SHORT_FACTORS,
                    None => FACTORS,
                };
                let factors = self.find(name).map(|t| self.values(t)).transpose()?.unwrap_or_default();
                frequencies(base, hyper.rotary, &factors, 1.0 / f64::from(keys.scale))
            }
        };
        let all = rope(&angles, keys.length);
        // Positions are not scaled in layers with a window.
        let rotary = hyper.window_heads.map_or(hyper.rotary, |heads| heads.rotary);
        let window = keys
            .window_base
            .map(|base| rope(&frequencies(f64::from(base), rotary, &[], 1.0), keys.window_length));
        Ok(Ropes { all, window })
    }
}
