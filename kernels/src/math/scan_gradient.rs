//! The gradient of a linear recurrence: the text is run again in segments, so that only the states of one segment and those
//! between segments are held.

use super::reduce::sum_of_pairs;
use super::scan::{Scan, ScanInput, Token, step};
use crate::isa::per_isa;

/// Number of tokens of a segment.
const SEGMENT: usize = 32;

/// The gradients of what a recurrence reads, in the shapes of [`ScanInput`].
#[derive(Debug)]
pub struct ScanGradients<'a> {
    /// Gradient of the queries.
    pub queries: &'a mut [f32],
    /// Gradient of the keys.
    pub keys: &'a mut [f32],
    /// Gradient of the values.
    pub values: &'a mut [f32],
    /// Gradient of the decays.
    pub decays: &'a mut [f32],
    /// Gradient of the strengths.
    pub strengths: &'a mut [f32],
}

impl Scan {
    /// Computes the gradient of [`run`](Self::run) over a text from its beginning, given `d_out` `[tokens][value]`, that of
    /// the output.
    pub fn gradient(&self, gradients: ScanGradients, d_out: &[f32], input: &ScanInput) {
        self.check(d_out.len(), self.state(), input);
        let ScanGradients { queries, keys, values, decays, strengths } = gradients;
        let as_input = ScanInput { queries, keys, values, decays, strengths };
        self.check(d_out.len(), self.state(), &as_input);
        let gradients = ScanGradients { queries, keys, values, decays, strengths };
        gradient(*self, gradients, d_out, input);
    }
}

per_isa! {
    pub(super) fn gradient, gradient_on(scan: Scan, gradients: ScanGradients, d_out: &[f32], input: &ScanInput) {
        let ScanGradients { queries, keys, values, decays, strengths } = gradients;
        let (tokens, size) = (input.decays.len(), scan.state());
        let starts = starts(scan, input);
        let mut states = vec![0.0; (SEGMENT + 1) * size];
        let mut scratch = Scratch::new(scan);
        for (segment, start) in starts.chunks_exact(size).enumerate().rev() {
            let first = segment * SEGMENT;
            let end = tokens.min(first + SEGMENT);
            states[..size].copy_from_slice(start);
            for t in first..end {
                let (before, after) = states.split_at_mut((t - first + 1) * size);
                after[..size].copy_from_slice(&before[(t - first) * size..]);
                step(scan, &mut scratch.out, &mut after[..size], &mut scratch.added, input.token(scan, t));
            }
            for t in (first..end).rev() {
                let out = TokenGradients {
                    query: &mut queries[t * scan.key..][..scan.key],
                    key: &mut keys[t * scan.key..][..scan.key],
                    value: &mut values[t * scan.value..][..scan.value],
                    decay: &mut decays[t],
                    strength: &mut strengths[t],
                };
                let around = states[(t - first) * size..][..2 * size].split_at(size);
                let d_out = &d_out[t * scan.value..][..scan.value];
                back(scan, out, d_out, around, input.token(scan, t), &mut scratch);
            }
        }
    }
}

/// Returns the states before each segment, `[segments][key][value]`.
#[inline(always)]
fn starts(scan: Scan, input: &ScanInput) -> Vec<f32> {
    let (mut state, mut starts) = (vec![0.0; scan.state()], Vec::new());
    let (mut out, mut added) = (vec![0.0; scan.value], vec![0.0; scan.value]);
    for t in 0..input.decays.len() {
        if t % SEGMENT == 0 {
            starts.extend_from_slice(&state);
        }
        step(scan, &mut out, &mut state, &mut added, input.token(scan, t));
    }
    starts
}

/// Buffers of the walk back.
struct Scratch {
    /// Gradient of the state after the token at hand, `[key][value]`.
    state: Vec<f32>,
    /// What the token adds to the state, `[value]`.
    added: Vec<f32>,
    /// Gradient of it, `[value]`.
    d_added: Vec<f32>,
    /// Output of the run forwards, which nothing reads, and then what the state has for the token's key, `[value]`.
    out: Vec<f32>,
}

impl Scratch {
    fn new(scan: Scan) -> Self {
        let row = || vec![0.0; scan.value];
        Self { state: vec![0.0; scan.state()], added: row(), d_added: row(), out: row() }
    }
}

/// The places of one token's gradients.
struct TokenGradients<'a> {
    query: &'a mut [f32],
    key: &'a mut [f32],
    value: &'a mut [f32],
    decay: &'a mut f32,
    strength: &'a mut f32,
}

/// Takes the gradient of the state back over one token, with the states before and after it.
#[inline(always)]
fn back(
    scan: Scan,
    gradients: TokenGradients,
    d_out: &[f32],
    (before, after): (&[f32], &[f32]),
    token: Token,
    scratch: &mut Scratch,
) {
    let Token { query, key, value, decay, strength } = token;
    let Scratch { state, added, d_added, out: known } = scratch;
    let width = scan.value;
    known.fill(0.0);
    if scan.delta {
        for (row, key) in before.chunks_exact(width).zip(key) {
            known.iter_mut().zip(row).for_each(|(sum, s)| *sum += key * decay * s);
        }
    }
    let values = value.iter().zip(&*known);
    added.iter_mut().zip(values).for_each(|(d, (v, known))| *d = strength * (v - known));
    d_added.fill(0.0);
    for (i, d_state) in state.chunks_exact_mut(width).enumerate() {
        d_state.iter_mut().zip(d_out).for_each(|(d, out)| *d += query[i] * out);
        gradients.query[i] = dot(&after[i * width..][..width], d_out);
        gradients.key[i] = dot(d_state, added);
        d_added.iter_mut().zip(&*d_state).for_each(|(sum, d)| *sum += key[i] * d);
    }
    added.iter_mut().zip(value.iter().zip(&*known)).for_each(|(left, (v, known))| *left = v - known);
    *gradients.strength = dot(d_added, added);
    gradients.value.iter_mut().zip(&*d_added).for_each(|(d, added)| *d = strength * added);
    let mut d_decay = 0.0;
    for (i, (d_state, before)) in state.chunks_exact_mut(width).zip(before.chunks_exact(width)).enumerate() {
        if scan.delta {
            // The gradient of what the state has for the key is that of the value, with its sign changed.
            gradients.key[i] -= decay * dot(before, gradients.value);
            d_state.iter_mut().zip(&*gradients.value).for_each(|(d, value)| *d -= key[i] * value);
        }
        d_decay += f64::from(dot(d_state, before));
        d_state.iter_mut().for_each(|d| *d *= decay);
    }
    *gradients.decay = d_decay as f32;
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_of_pairs(a, b, |a, b| a * b) as f32
}
