//! Operations, and the slots that they read and write.

use super::carried::Recalled;
use super::groups::Map;
use super::slot::Slot;

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Division by the root mean square, then a weight; there is no bias.
    Rms,
    /// Mean and variance are normalised, then come a weight and a bias.
    Layer,
}

/// The selection of matrices of a tensor `[matrices][outputs][inputs]` that a row is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The row is multiplied by the matrices of the experts that its token is routed to.
    Routes,
    /// Part i of the row is multiplied by matrix i.
    Heads,
}

/// The parts of a row that [`Op::Cut`] cuts, all in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutEach {
    /// The row as a whole.
    Row,
    /// Each attention head.
    Head,
    /// Each group of heads of a recurrence.
    Group,
}

/// The function of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateFunction {
    /// The gate itself.
    Same,
    /// The logistic sigmoid.
    Sigmoid,
    /// SiLU.
    Silu,
}

/// The recurrence of a layer: what it makes of the convolution's output, and of which heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recurrence {
    /// The gated delta rule over queries, keys and values side by side; queries and keys are brought to unit length.
    GatedDelta {
        /// True if head i reads the queries and keys of head i modulo their number; otherwise neighbours share them.
        tiled: bool,
    },
    /// The selective state space of Mamba 2, over inputs, B and C side by side; neighbouring heads share B and C.
    StateSpace,
}

/// Bound of gate and up in [`Activation::ClampedGate`]: `swiglu_limit` of gpt-oss.
pub const GATE_LIMIT: f32 = 7.0;

/// An activation function of the feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// SiLU of the gate: `gate = silu(gate) * up`.
    SiluGate,
    /// GELU of the gate in its tanh form: `gate = gelu(gate) * up`.
    GeluGate,
    /// GELU of the gate by its definition: `gate = gelu(gate) * up`.
    GeluErfGate,
    /// The activation of gpt-oss: gate and up are bounded by [`GATE_LIMIT`], then
    /// `gate = gate * sigmoid(1.702 gate) * (up + 1)`.
    ClampedGate,
    /// The square of the gate where it is positive, and 0 elsewhere, times up.
    ReluSquaredGate,
    /// xIELU of [`Slot::Up`], with numbers of the layer from the keys.
    Xielu,
    /// GELU of [`Slot::Up`] in its tanh form.
    Gelu,
    /// GELU of [`Slot::Up`] by its definition.
    GeluErf,
    /// The square of [`Slot::Up`] where it is positive, and 0 elsewhere.
    ReluSquared,
}

impl Activation {
    /// Returns true if it combines gate and up.
    pub fn is_gate(self) -> bool {
        matches!(
            self,
            Self::SiluGate | Self::GeluGate | Self::GeluErfGate | Self::ClampedGate | Self::ReluSquaredGate
        )
    }
}

/// An operation of a layer. Tensor names lack `blk.N.` and `.weight`; a bias is applied if the model has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Computes `output = norm(input)` with the tensor called `name`: over the whole width, or part by part if the tensor
    /// is as wide as a head. All heads share its weights, or have their own in `[heads][head]`. Input and output may be
    /// the same slot.
    Norm {
        /// The slot that is read.
        input: Slot,
        /// The slot that is written.
        output: Slot,
        /// Name of the tensor.
        name: &'static str,
        /// The kind of the norm.
        kind: NormKind,
    },
    /// Divides each head of a slot by its root mean square, without a weight.
    Normalize {
        /// The slot that is normed in place.
        slot: Slot,
    },
    /// Computes `output = input * weight'`; observers see its input, and quantization rounds its weight.
    Linear {
        /// The slot that is read.
        input: Slot,
        /// The slot that is written.
        output: Slot,
        /// Name of the tensor, `[outputs][inputs]`.
        name: &'static str,
    },
    /// Computes `output = input * weight'` with one of several matrices for each part of a row.
    Matrices {
        /// The slot that is read; a row has one part for every matrix that it is routed to, or one part for all.
        input: Slot,
        /// The slot that is written; a row has one part for every matrix that it is routed to.
        output: Slot,
        /// Name of the tensor, `[matrices][outputs][inputs]`.
        name: &'static str,
        /// The selection of matrices.
        by: By,
    },
    /// Cuts [`Slot::Fused`] into queries, keys and values.
    Split,
    /// Cuts [`Slot::Up`] into gate and up, the gate first.
    SplitGate {
        /// True if each expert's part is cut, false if the row is.
        routed: bool,
    },
    /// Cuts each row, or each head of each row, into parts.
    Cut {
        /// The slot that is read.
        input: Slot,
        /// The slots that are written.
        outputs: &'static [Slot],
        /// The parts of a row that are cut.
        each: CutEach,
    },
    /// Joins two slots, the reverse of [`Op::Cut`].
    Join {
        /// The slots that are read.
        inputs: [Slot; 2],
        /// The slot that is written.
        output: Slot,
        /// True if they are joined head by head.
        heads: bool,
    },
    /// Copies a row that all heads share to each of them.
    Repeat {
        /// The slot that is read.
        input: Slot,
        /// The slot that is written.
        output: Slot,
    },
    /// Rotates queries or keys by their positions.
    Rope {
        /// The slot that is rotated in place.
        slot: Slot,
    },
    /// Multiplies queries by what the keys say of their position ([`Growth`](super::Growth)).
    Grow,
    /// Computes attention over the chunk, causal or both ways as the keys say, from queries, keys and values to [`Slot::Attended`].
    Attention {
        /// Name of the tensor `[heads]` of attention sinks, scores without a value, if the architecture has them.
        sinks: Option<&'static str>,
    },
    /// Applies the activation function of the feed-forward network.
    Activate(Activation),
    /// Computes `slot = f(gate) * slot`.
    Gate {
        /// The slot that is multiplied in place.
        slot: Slot,
        /// The gate, as wide as the slot.
        gate: Slot,
        /// The function of the gate.
        function: GateFunction,
    },
    /// Convolves [`Slot::Convolved`] in place with the last tokens, channel by channel.
    Convolve {
        /// Name of the tensor, `[channels][kernel]`; its last element is for the token itself.
        name: &'static str,
        /// True if SiLU follows.
        silu: bool,
    },
    /// Runs the recurrence of a layer over [`Slot::Convolved`] and the steps, to [`Slot::Scanned`].
    Scan(Recurrence),
    /// Chooses experts by the scores of [`Slot::Router`]; the tensor `bias`, if the model has it, corrects the scores for
    /// the choice alone.
    Route {
        /// Name of the tensor `[experts]`, as in `blk.N.{bias}.bias`.
        bias: &'static str,
    },
    /// Multiplies each token's normed stream by the weight of each of its experts, and sets the weights to 1 (Llama 4).
    Share,
    /// Sets `delta` to the weighted sum of the experts' outputs.
    Combine,
    /// Multiplies each token's `delta` by the sigmoid of its [`Slot::SharedGate`].
    ScaleShared,
    /// Computes `slot += other`.
    Sum {
        /// The slot that is added to.
        slot: Slot,
        /// The slot that is added, as wide.
        other: Slot,
    },
    /// Computes `output = norm(input)` with the tensor `blk.N.{name}`, `[hidden]`, over the root of its width as the weight of an RMS
    /// norm (Gemma 4's router).
    NormBy {
        /// The slot that is read.
        input: Slot,
        /// The slot that is written.
        output: Slot,
        /// Name of the tensor.
        name: &'static str,
    },
    /// Multiplies the weight of each expert that a token is routed to by the expert's number in the tensor `blk.N.{name}`.
    ScaleExperts {
        /// Name of the tensor, `[experts]`.
        name: &'static str,
    },
    /// Multiplies the stream by a number.
    ScaleStream {
        /// Name of the tensor that holds the number.
        name: &'static str,
    },
    /// Copies a part of [`Slot::Carried`] to a slot.
    Recall {
        /// The part.
        part: Recalled,
        /// The slot that is written.
        slot: Slot,
    },
    /// Leaves in [`Slot::Carried`] what later layers read, at the end of a layer.
    PassOn {
        /// True if the layer's keys and values are among it.
        keys: bool,
    },
    /// Adds `delta` to the stream, times the residual scale of the keys.
    Add,
}

/// The slots that an operation uses.
struct Uses {
    reads: Vec<Slot>,
    writes: Vec<Slot>,
}

/// Creates a row of the table of operations.
fn uses(reads: &[Slot], writes: &[Slot]) -> Uses {
    Uses { reads: reads.to_vec(), writes: writes.to_vec() }
}

impl Op {
    /// Returns the slots that the operation reads and writes, from a table with a row for each operation.
    fn uses(&self) -> Uses {
        match *self {
            Self::Norm { input, output, .. } | Self::Linear { input, output, .. } => {
                uses(&[input], &[output])
            }
            Self::Matrices { input, output, by: By::Heads, .. } => uses(&[input], &[output]),
            Self::Matrices { input, output, by: By::Routes, .. } => uses(&[input, Slot::Routes], &[output]),
            Self::Normalize { slot } => uses(&[slot], &[slot]),
            Self::Share => uses(&[Slot::Normed, Slot::Routes], &[Slot::ExpertIn, Slot::Routes]),
            Self::Split => uses(&[Slot::Fused], &[Slot::Query, Slot::Key, Slot::Value]),
            Self::SplitGate { .. } => uses(&[Slot::Up], &[Slot::Gate, Slot::Up]),
            Self::Cut { input, outputs, .. } => uses(&[input], outputs),
            Self::Join { inputs, output, .. } => uses(&inputs, &[output]),
            Self::Repeat { input, output } => uses(&[input], &[output]),
            Self::Rope { slot } => uses(&[slot], &[slot]),
            Self::Grow => uses(&[Slot::Query], &[Slot::Query]),
            Self::Attention { .. } => uses(&[Slot::Query, Slot::Key, Slot::Value], &[Slot::Attended]),
            Self::Activate(f) if f.is_gate() => uses(&[Slot::Gate, Slot::Up], &[Slot::Gate]),
            Self::Activate(_) => uses(&[Slot::Up], &[Slot::Up]),
            Self::Gate { slot, gate, .. } => uses(&[slot, gate], &[slot]),
            Self::Convolve { .. } => uses(&[Slot::Convolved], &[Slot::Convolved]),
            Self::Scan(Recurrence::GatedDelta { .. }) => {
                uses(&[Slot::Convolved, Slot::Step, Slot::Strength], &[Slot::Scanned])
            }
            Self::Scan(Recurrence::StateSpace) => uses(&[Slot::Convolved, Slot::Step], &[Slot::Scanned]),
            Self::Route { .. } => uses(&[Slot::Router], &[Slot::Routes]),
            Self::Combine => uses(&[Slot::ExpertOut, Slot::Routes], &[Slot::Delta]),
            Self::ScaleShared => uses(&[Slot::Delta, Slot::SharedGate], &[Slot::Delta]),
            Self::Sum { slot, other } => uses(&[slot, other], &[slot]),
            Self::NormBy { input, output, .. } => uses(&[input], &[output]),
            Self::ScaleExperts { .. } => uses(&[Slot::Routes], &[Slot::Routes]),
            Self::ScaleStream { .. } => uses(&[Slot::Stream], &[Slot::Stream]),
            Self::Recall { slot, .. } => uses(&[Slot::Carried], &[slot]),
            Self::PassOn { keys: true } => uses(&[Slot::Carried, Slot::Key, Slot::Value], &[Slot::Carried]),
            Self::PassOn { keys: false } => uses(&[Slot::Carried], &[Slot::Carried]),
            Self::Add => uses(&[Slot::Stream, Slot::Delta], &[Slot::Stream]),
        }
    }

    /// Returns the slots that the operation reads.
    pub fn reads(&self) -> Vec<Slot> {
        self.uses().reads
    }

    /// Returns the slots that the operation writes.
    pub fn writes(&self) -> Vec<Slot> {
        self.uses().writes
    }

    /// Lets a linear map that reads the slot `from` read `to` instead.
    pub(crate) fn redirect(&mut self, from: Slot, to: Slot) {
        if let Self::Linear { input, .. } = self
            && *input == from
        {
            *input = to;
        }
    }

    /// Returns the linear map that this operation is, if it is one.
    pub(crate) fn map(&self) -> Option<Map> {
        match *self {
            Self::Linear { input, output, name } => Some(Map { input, output, name, by: None }),
            Self::Matrices { input, output, name, by } => Some(Map { input, output, name, by: Some(by) }),
            _ => None,
        }
    }
}
