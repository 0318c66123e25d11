//! Tables of rotations.

use half::bf16;
use kquant_kernels::math::{Rope, frequencies};

use crate::model::{Model, ModelError};

const FACTORS: &str = "rope_freqs.weight";
const LONG_FACTORS: &str = "rope_factors_long.weight";
const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// Rotations of a run of positions.
#[derive(Debug)]
pub(crate) struct Ropes {
    all: Rope,
    /// In layers with a window, where it is another one.
    window: Option<Rope>,
}

/// What queries of a layer see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// All of the text before them.
    All,
    /// A window of it.
    Window,
}

impl Ropes {
    /// The rotations in layers of reach `reach`.
    pub(super) fn of(&self, reach: Reach) -> &Rope {
        match (&self.window, reach) {
            (Some(rope), Reach::Window) => rope,
            _ => &self.all,
        }
    }
}

impl Model {
    /// Rotations for positions `0..positions`.
    pub(super) fn ropes(&self, positions: usize) -> Result<Ropes, ModelError> {
        let (hyper, keys) = (&self.hyper, &self.hyper.rope);
        let rope = |angles: &[f64], length| {
            let rounded =
                |angle: &f64| if self.rounds_turns { bf16::from_f64(*angle).to_f64() } else { *angle };
            let angles: Vec<f64> = angles.iter().map(rounded).collect();
            Rope::new(&angles, positions, self.graph.pairs, length)
        };
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
        // Positions in a window are not stretched.
        let window = keys
            .window_base
            .map(|base| rope(&frequencies(f64::from(base), hyper.rotary, &[], 1.0), keys.window_length));
        Ok(Ropes { all, window })
    }
}
