//! The heads of a recurrence: where their parts are in the rows of the convolution's output, and the rates of their states.

use kquant_kernels::math::{self, Scan, ScanInput};

use crate::graph::{Recurrence, Recurrent};

/// Number that is added to the squared length of queries and keys before they are brought to unit length.
const LENGTH_EPSILON: f32 = 1e-6;

/// The places of heads' queries, keys and values in a row of [`Slot::Convolved`](crate::graph::Slot::Convolved).
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadPlaces {
    pub scan: Scan,
    pub heads: usize,
    pub channels: usize,
    groups: usize,
    /// True if head i reads the queries and keys of group i modulo their number.
    tiled: bool,
    /// First columns of queries, keys and values.
    first: [usize; 3],
}

/// What the recurrence of one head reads, gathered from the rows of one chunk.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadInput {
    /// Queries, keys and values, `[tokens][width]` each.
    pub parts: [Vec<f32>; 3],
    /// Factors of the state, `[tokens]`.
    pub decays: Vec<f32>,
    /// Factors of what is added to the state, `[tokens]`.
    pub strengths: Vec<f32>,
}

impl HeadInput {
    pub(super) fn view(&self) -> ScanInput<'_> {
        let [queries, keys, values] = &self.parts;
        ScanInput { queries, keys, values, decays: &self.decays, strengths: &self.strengths }
    }
}

impl HeadPlaces {
    pub(super) fn new(recurrence: Recurrence, recurrent: &Recurrent) -> Self {
        let Recurrent { inner, heads, groups, state, .. } = *recurrent;
        let delta = matches!(recurrence, Recurrence::GatedDelta { .. });
        let first = match recurrence {
            Recurrence::GatedDelta { .. } => [0, groups * state, 2 * groups * state],
            // What Mamba 2 calls x, B and C are values, keys and queries.
            Recurrence::StateSpace => [inner + groups * state, inner, 0],
        };
        Self {
            scan: Scan { key: state, value: recurrent.value(), delta },
            heads,
            channels: recurrent.channels(),
            groups,
            tiled: recurrence == Recurrence::GatedDelta { tiled: true },
            first,
        }
    }

    /// Returns the first columns and the widths of query, key and value of head `head`.
    pub(super) fn columns(&self, head: usize) -> [(usize, usize); 3] {
        let group = if self.tiled { head % self.groups } else { head / (self.heads / self.groups) };
        let (Scan { key, value, .. }, [q, k, v]) = (self.scan, self.first);
        [(q + group * key, key), (k + group * key, key), (v + head * value, value)]
    }

    /// Returns queries, keys and values of head `head` as they are in `rows`, `[tokens][channels]`.
    pub(super) fn gather(&self, head: usize, rows: &[f32]) -> [Vec<f32>; 3] {
        self.columns(head).map(|(first, width)| {
            rows.chunks_exact(self.channels).flat_map(|row| &row[first..first + width]).copied().collect()
        })
    }

    /// Returns the weights of the norms that bring queries and keys to unit length, and divide queries by the root of their
    /// width besides.
    fn norms(&self) -> [Vec<f32>; 2] {
        let root = (self.scan.key as f32).sqrt();
        [1.0 / (root * root), 1.0 / root].map(|weight| vec![weight; self.scan.key])
    }

    fn epsilon(&self) -> f32 {
        LENGTH_EPSILON / self.scan.key as f32
    }

    /// Returns queries and keys as the recurrence reads them: of unit length if it is the delta rule.
    pub(super) fn normed(&self, parts: &[Vec<f32>; 3]) -> [Vec<f32>; 3] {
        let mut out = parts.clone();
        if self.scan.delta {
            for ((out, x), weight) in out.iter_mut().zip(parts).zip(self.norms()) {
                math::rms_norm(out, x, &weight, self.epsilon());
            }
        }
        out
    }

    /// Replaces the gradients of queries and keys that the recurrence reads by those of `parts`, which they are made of.
    pub(super) fn normed_gradient(&self, gradients: &mut [Vec<f32>; 3], parts: &[Vec<f32>; 3]) {
        if self.scan.delta {
            for ((gradient, x), weight) in gradients.iter_mut().zip(parts).zip(self.norms()) {
                math::rms_norm_gradient(gradient, x, &weight, self.epsilon());
            }
        }
    }
}

/// The rates of a head's state at one token, computed in f64 so that they are the same on every platform.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// The step, which is positive.
    step: f64,
    /// Derivative of the step.
    slope: f64,
    /// Factor of the state.
    pub decay: f64,
    /// Factor of what is added to the state.
    pub strength: f64,
}

/// The gradients of what [`Rates`] are computed from.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateGradients {
    pub step: f32,
    /// Gradient of the strength before the sigmoid; 0 if the strength is the step.
    pub strength: f32,
    /// Gradient of the decay's rate.
    pub rate: f32,
}

impl Rates {
    /// Computes the rates from the decay's rate `rate`, negative, the step before softplus, and the strength before the sigmoid;
    /// without it, the strength is the step.
    pub(super) fn new(rate: f32, step: f64, strength: Option<f32>) -> Self {
        let slope = sigmoid(step);
        let step = if step > 20.0 { step } else { step.exp().ln_1p() };
        let strength = strength.map_or(step, |strength| sigmoid(strength.into()));
        Self { step, slope, decay: (f64::from(rate) * step).exp(), strength }
    }

    /// Returns the gradients given those of decay and strength; `own` is true if the strength has an input of its own.
    pub(super) fn gradients(&self, rate: f32, [d_decay, d_strength]: [f32; 2], own: bool) -> RateGradients {
        let [d_decay, d_strength] = [d_decay, d_strength].map(f64::from);
        let of_exponent = d_decay * self.decay;
        let of_step = of_exponent * f64::from(rate) + if own { 0.0 } else { d_strength };
        let of_strength = if own { d_strength * self.strength * (1.0 - self.strength) } else { 0.0 };
        RateGradients {
            step: (of_step * self.slope) as f32,
            strength: of_strength as f32,
            rate: (of_exponent * self.step) as f32,
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
