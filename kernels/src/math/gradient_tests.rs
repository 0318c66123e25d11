//! Tests that compare every vector-Jacobian product with differences of the function in f64.
//!
//! Central differences with a step of 1e-5 are good to about 1e-9 here, so that deviations are the rounding of f32.

use super::tests::{bits, noise};
use super::*;
use crate::isa::Isa;
use crate::math::activation_gradient::*;
use crate::math::conv::*;
use crate::math::norm::*;
use crate::math::scan::tests::definition;
use crate::math::scan_gradient::gradient_on;
use crate::math::softmax::*;
use crate::math::xielu::*;

/// The largest error, relative to the largest element of the gradient.
const TOLERANCE: f64 = 3e-6;
const STEP: f64 = 1e-5;
const EPS: f32 = 1e-5;

/// A function of several inputs in f64.
type Definition<'a> = &'a dyn Fn(&[&[f64]]) -> Vec<f64>;
/// A vector-Jacobian product: it takes the inputs and the gradient of the output and returns the gradient of each
/// input.
type Vjp<'a> = &'a dyn Fn(Isa, &[&[f32]], &[f32]) -> Vec<Vec<f32>>;
/// The vector-Jacobian product of a function of one buffer, with arguments `(gradient, x)`.
type InPlace<'a> = &'a dyn Fn(Isa, &mut [f32], &[f32]);
/// The vector-Jacobian product of a gate, with arguments `(d_gate, d_up, gate, up)`.
type OfGate<'a> = &'a dyn Fn(Isa, &mut [f32], &mut [f32], &[f32], &[f32]);

/// An operation under test: the lengths of its inputs, its definition in f64, and its vector-Jacobian product.
struct Case<'a> {
    name: &'a str,
    /// The lengths of the inputs that have a gradient.
    inputs: &'a [usize],
    definition: Definition<'a>,
    product: Vjp<'a>,
}

/// Cuts `x` into parts of the given lengths.
fn parts<'x, T>(x: &'x [T], lengths: &[usize]) -> Vec<&'x [T]> {
    let mut rest = x;
    let cut = |&length: &usize| {
        let (part, after) = rest.split_at(length);
        rest = after;
        part
    };
    lengths.iter().map(cut).collect()
}

impl Case<'_> {
    fn check(&self) {
        // Inputs go beyond the bounds of gates, and to where GELU bends.
        let x: Vec<f32> = noise(self.inputs.iter().sum(), 1).iter().map(|x| 3.0 * x).collect();
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let outputs = (self.definition)(&parts(&exact, self.inputs)).len();
        let d_out = noise(outputs, 2);
        let loss = |x: &[f64]| -> f64 {
            let out = (self.definition)(&parts(x, self.inputs));
            out.iter().zip(&d_out).map(|(out, d)| out * f64::from(*d)).sum()
        };
        let slope = |i: usize| {
            let moved = |step: f64| {
                let mut x = exact.clone();
                x[i] += step;
                loss(&x)
            };
            (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
        };
        let expected: Vec<f64> = (0..x.len()).map(slope).collect();
        let largest = expected.iter().fold(0f64, |max, v| max.max(v.abs()));
        assert!(largest > 1e-2, "{}: nothing to compare", self.name);
        let of = |isa| (self.product)(isa, &parts(&x, self.inputs), &d_out).concat();
        for (i, (ours, exact)) in of(Isa::current()).iter().zip(&expected).enumerate() {
            let error = (f64::from(*ours) - exact).abs();
            assert!(error <= TOLERANCE * largest, "{} [{i}]: {ours} is not {exact}", self.name);
        }
        for isa in Isa::available() {
            assert!(bits(&of(isa)) == bits(&of(Isa::available()[0])), "{}: {isa:?}", self.name);
        }
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu_by_tanh(x: f64) -> f64 {
    x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3)))
}

/// Computes `x Φ(x)` by Simpson's rule over the normal density.
fn gelu_by_erf(x: f64) -> f64 {
    let n = 200;
    let density = |t: f64| (-0.5 * t * t).exp() / std::f64::consts::TAU.sqrt();
    let weight = |i: usize| if i == 0 || i == n { 1.0 } else { [2.0, 4.0][i % 2] };
    let sum: f64 = (0..=n).map(|i| weight(i) * density(x * i as f64 / n as f64)).sum();
    x * (0.5 + sum * x / (3.0 * n as f64))
}

fn softmax_of(x: &[f64], extra: Option<f64>) -> Vec<f64> {
    let total: f64 = x.iter().copied().chain(extra).map(f64::exp).sum();
    x.iter().map(|x| x.exp() / total).collect()
}

#[test]
fn norms() {
    // There are two rows of 37 elements under the same weight.
    let weight = noise(37, 5);
    let w = wide(&weight);
    let normalised = |row: &[f64], mean: f64| -> Vec<f64> {
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (variance + f64::from(EPS)).sqrt();
        row.iter().zip(&w).map(|(x, w)| (x - mean) * scale * w).collect()
    };
    Case {
        name: "rms norm",
        inputs: &[74],
        definition: &|x| x[0].chunks(37).flat_map(|row| normalised(row, 0.0)).collect(),
        product: &|isa, x, d| {
            let mut gradient = d.to_vec();
            rms_norm_gradient_on(isa, &mut gradient, x[0], &weight, EPS);
            vec![gradient]
        },
    }
    .check();
    Case {
        name: "layer norm",
        inputs: &[74],
        definition: &|x| {
            let mean = |row: &[f64]| row.iter().sum::<f64>() / row.len() as f64;
            x[0].chunks(37).flat_map(|row| normalised(row, mean(row))).collect()
        },
        product: &|isa, x, d| {
            let mut gradient = d.to_vec();
            layer_norm_gradient_on(isa, &mut gradient, x[0], &weight, EPS);
            vec![gradient]
        },
    }
    .check();
}

#[test]
fn positions() {
    for layout in [Pairs::Adjacent, Pairs::Halves] {
        let frequencies = [0.5, 0.25];
        let rope = Rope::new(&frequencies, 5, layout, 1.25);
        let pairs = match layout {
            Pairs::Adjacent => [(0, 1), (2, 3)],
            Pairs::Halves => [(0, 2), (1, 3)],
        };
        // There are two tokens of two heads of 6 elements, of which 4 are rotated.
        let turned = |x: &[f64]| -> Vec<f64> {
            let mut out = x.to_vec();
            for (row, (out, x)) in out.chunks_mut(6).zip(x.chunks(6)).enumerate() {
                for ((a, b), frequency) in pairs.iter().zip(frequencies) {
                    let (sin, cos) = ((3 + row / 2) as f64 * frequency).sin_cos();
                    out[*a] = 1.25 * (x[*a] * cos - x[*b] * sin);
                    out[*b] = 1.25 * (x[*a] * sin + x[*b] * cos);
                }
            }
            out
        };
        Case {
            name: "rope",
            inputs: &[24],
            definition: &|x| turned(x[0]),
            product: &|_, _, d| {
                let mut gradient = d.to_vec();
                rope.rotate_gradient(&mut gradient, 2, 6, 3);
                vec![gradient]
            },
        }
        .check();
    }
}

/// Checks the gradient of a function of one buffer.
fn single(name: &str, definition: &dyn Fn(&[f64]) -> Vec<f64>, product: InPlace) {
    Case {
        name,
        inputs: &[43],
        definition: &|x| definition(x[0]),
        product: &|isa, x, d| {
            let mut gradient = d.to_vec();
            product(isa, &mut gradient, x[0]);
            vec![gradient]
        },
    }
    .check();
}

/// Checks the gradients of a gate.
fn gate(name: &str, definition: fn(f64, f64) -> f64, product: OfGate) {
    Case {
        name,
        inputs: &[83, 83],
        definition: &|x| x[0].iter().zip(x[1]).map(|(gate, up)| definition(*gate, *up)).collect(),
        product: &|isa, x, d| {
            let (mut d_gate, mut d_up) = (d.to_vec(), vec![f32::NAN; d.len()]);
            product(isa, &mut d_gate, &mut d_up, x[0], x[1]);
            vec![d_gate, d_up]
        },
    }
    .check();
}

#[test]
fn activations() {
    let each = |f: fn(f64) -> f64| move |x: &[f64]| -> Vec<f64> { x.iter().map(|&x| f(x)).collect() };
    gate("silu gate", |gate, up| gate * sigmoid(gate) * up, &silu_gate_gradient_on);
    gate("sigmoid gate", |gate, up| sigmoid(gate) * up, &sigmoid_gate_gradient_on);
    gate("gelu gate", |gate, up| gelu_by_tanh(gate) * up, &gelu_gate_gradient_on);
    gate("gelu by erf gate", |gate, up| gelu_by_erf(gate) * up, &gelu_erf_gate_gradient_on);
    gate("relu squared gate", |gate, up| gate.max(0.0).powi(2) * up, &relu_squared_gate_gradient_on);
    let clamped = |gate: f64, up: f64| {
        let gate = gate.min(1.5);
        gate * sigmoid(1.702 * gate) * (up.clamp(-1.5, 1.5) + 1.0)
    };
    gate("clamped gate", clamped, &|isa, a, b, c, d| clamped_gate_gradient_on(isa, a, b, c, d, 1.5));
    single("silu", &each(|x| x * sigmoid(x)), &silu_gradient_on);
    single("gelu by tanh", &each(gelu_by_tanh), &gelu_tanh_gradient_on);
    single("gelu by erf", &each(gelu_by_erf), &gelu_erf_gradient_on);
    single("relu squared", &each(|x| x.max(0.0).powi(2)), &relu_squared_gradient_on);
    let xielu = |x: f64| {
        let (positive, negative) = (0.25f64.exp().ln_1p(), 0.5 + (-1f64).exp().ln_1p());
        0.5 * x + if x > 0.0 { positive * x * x } else { negative * (x.min(-1e-6).exp_m1() - x) }
    };
    single("xielu", &each(xielu), &|isa, gradient, x| {
        xielu_gradient_on(isa, gradient, x, Xielu::new([0.25, -1.0, 0.5, -1e-6]));
    });
    single("sigmoid", &each(sigmoid), &|isa, gradient, x| {
        let mut p = x.to_vec();
        super::sigmoid(&mut p);
        sigmoid_gradient_on(isa, gradient, &p);
    });
    single("soft cap", &each(|x| 2.0 * (x / 2.0).tanh()), &|isa, gradient, x| {
        let mut capped = x.to_vec();
        soft_cap(&mut capped, 2.0);
        soft_cap_gradient_on(isa, gradient, &capped, 2.0);
    });
}

#[test]
fn probabilities() {
    for extra in [None, Some(1.25f32)] {
        single("softmax", &|x| softmax_of(x, extra.map(f64::from)), &|isa, gradient, x| {
            let mut p = x.to_vec();
            softmax_with(&mut p, extra);
            softmax_gradient_on(isa, gradient, &p);
        });
    }
}

/// Computes attention by its definition; the queries belong to the last keys.
fn attention(shape: &Heads, sinks: &[f32], [q, k, v]: [&[f64]; 3]) -> Vec<f64> {
    let Heads { heads, kv_heads, dim, value_dim, scale, cap, causal, window } = *shape;
    let (tokens, keys) = (q.len() / (heads * dim), k.len() / (kv_heads * dim));
    let mut out = Vec::new();
    for token in 0..tokens {
        let own = keys - tokens + token;
        let is_near = |key: usize| match window {
            Some(window) if causal => own < key + window,
            Some(window) => own.abs_diff(key) <= window / 2,
            None => true,
        };
        let visible: Vec<usize> = (0..keys).filter(|&key| (!causal || key <= own) && is_near(key)).collect();
        for head in 0..heads {
            let kv = head / (heads / kv_heads);
            let q = &q[(token * heads + head) * dim..][..dim];
            let score = |key: usize| {
                let k = &k[(key * kv_heads + kv) * dim..][..dim];
                let score = f64::from(scale) * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                cap.map(f64::from).map_or(score, |cap| cap * (score / cap).tanh())
            };
            let scores: Vec<f64> = visible.iter().map(|&key| score(key)).collect();
            let p = softmax_of(&scores, sinks.get(head).map(|&sink| f64::from(sink)));
            let value = |i: usize| -> f64 {
                visible.iter().zip(&p).map(|(&key, p)| p * v[(key * kv_heads + kv) * value_dim + i]).sum()
            };
            out.extend((0..value_dim).map(value));
        }
    }
    out
}

fn check_attention(name: &str, shape: Heads, (tokens, keys): (usize, usize), sinks: &[f32]) {
    let Heads { heads, kv_heads, dim, value_dim, .. } = shape;
    let lengths = [tokens * heads * dim, keys * kv_heads * dim, keys * kv_heads * value_dim];
    Case {
        name,
        inputs: &lengths,
        definition: &|x| attention(&shape, sinks, [x[0], x[1], x[2]]),
        product: &|isa, x, d| {
            let [mut q, mut k, mut v] = lengths.map(|n| vec![f32::NAN; n]);
            let gradients = SeenGradients { queries: &mut q, keys: &mut k, values: &mut v };
            let seen = Seen { keys: x[1], values: x[2], sinks };
            shape.attend_gradient_on(isa, gradients, d, x[0], seen, &mut GradientScratch::default());
            vec![q, k, v]
        },
    }
    .check();
}

#[test]
fn attentions() {
    let plain = Heads {
        heads: 2,
        kv_heads: 2,
        dim: 4,
        value_dim: 4,
        scale: 0.2,
        cap: None,
        causal: true,
        window: None,
    };
    check_attention("attention", plain, (6, 6), &[]);
    check_attention("one query", plain, (1, 7), &[]);
    check_attention("grouped queries", Heads { heads: 4, ..plain }, (6, 8), &[]);
    check_attention("values of another width", Heads { heads: 4, value_dim: 3, ..plain }, (6, 6), &[]);
    check_attention("bounded scores", Heads { cap: Some(1.5), ..plain }, (6, 6), &[]);
    check_attention("a window", Heads { window: Some(3), heads: 4, ..plain }, (6, 9), &[]);
    check_attention("sinks", plain, (6, 6), &[0.5, -2.0]);
    let both = Heads { causal: false, ..plain };
    check_attention("both ways", both, (6, 6), &[]);
    check_attention("both ways in a window", Heads { window: Some(4), heads: 4, ..both }, (7, 7), &[]);
    let all = Heads { heads: 4, value_dim: 3, cap: Some(1.5), window: Some(4), ..plain };
    check_attention("all of it", all, (7, 9), &[0.5, -2.0, 1.0, 3.0]);
}

/// There are more queries than one block, with a window that ends within a block.
#[test]
fn blocks_of_queries_add_up() {
    let shape = Heads {
        heads: 2,
        kv_heads: 1,
        dim: 1,
        value_dim: 1,
        scale: 0.3,
        cap: None,
        causal: true,
        window: Some(100),
    };
    check_attention("blocks", shape, (140, 150), &[]);
    check_attention("blocks both ways", Heads { causal: false, ..shape }, (140, 140), &[]);
}

#[test]
fn convolutions() {
    // There are six tokens of five channels; the weights `[5][4]` are an input as well.
    let definition = |x: &[&[f64]]| -> Vec<f64> {
        let (x, weight) = (x[0], x[1]);
        let term = |t: usize, channel: usize, k: usize| {
            let row = (t + k).checked_sub(3)?;
            Some(weight[channel * 4 + k] * x[row * 5 + channel])
        };
        (0..30).map(|i| (0..4).filter_map(|k| term(i / 5, i % 5, k)).sum()).collect()
    };
    Case {
        name: "causal convolution",
        inputs: &[30, 20],
        definition: &definition,
        product: &|isa, x, d| {
            let taps: Vec<f32> = (0..20).map(|i| x[1][i % 5 * 4 + i / 5]).collect();
            let (mut d_x, mut products) = (vec![f32::NAN; 30], vec![f32::NAN; 6 * 20]);
            causal_conv_gradient_on(isa, &mut d_x, d, &taps, 5);
            causal_conv_products(&mut products, x[0], d, 5);
            let sum = |i: usize| products.iter().skip(i).step_by(20).sum();
            vec![d_x, (0..20).map(sum).collect()]
        },
    }
    .check();
}

#[test]
fn scans() {
    // There are more tokens than a segment has. Decays and strengths are in 0..1 and keys short, so that the state stays small.
    let tokens = 37;
    for delta in [false, true] {
        let scan = Scan { key: 3, value: 2, delta };
        let lengths = [3, 3, 2, 1, 1].map(|width| width * tokens);
        let part = |x: f64| sigmoid(x);
        let tame = |x: &[&[f64]]| -> [Vec<f64>; 5] {
            [0, 1, 2, 3, 4].map(|i| {
                let of = |&x: &f64| {
                    if i < 1 || i == 2 {
                        x
                    } else if i == 1 {
                        0.2 * x
                    } else {
                        part(x)
                    }
                };
                x[i].iter().map(of).collect()
            })
        };
        Case {
            name: "scan",
            inputs: &lengths,
            definition: &|x| definition(scan, tame(x).each_ref().map(Vec::as_slice)),
            product: &|isa, x, d| {
                let wide: Vec<Vec<f64>> = x.iter().map(|x| self::wide(x)).collect();
                let wide: Vec<&[f64]> = wide.iter().map(Vec::as_slice).collect();
                let narrow = |x: &Vec<f64>| -> Vec<f32> { x.iter().map(|&x| x as f32).collect() };
                let [queries, keys, values, decays, strengths] = &tame(&wide).each_ref().map(narrow);
                let input = ScanInput { queries, keys, values, decays, strengths };
                let [mut q, mut k, mut v, mut g, mut b] = lengths.map(|n| vec![f32::NAN; n]);
                let out = ScanGradients {
                    queries: &mut q,
                    keys: &mut k,
                    values: &mut v,
                    decays: &mut g,
                    strengths: &mut b,
                };
                gradient_on(isa, scan, out, d, &input);
                k.iter_mut().for_each(|k| *k *= 0.2);
                for (d, p) in [(&mut g, decays), (&mut b, strengths)] {
                    d.iter_mut().zip(p).for_each(|(d, p)| *d *= p * (1.0 - p));
                }
                vec![q, k, v, g, b]
            },
        }
        .check();
    }
}
