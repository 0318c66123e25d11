//! Every tensor of the forward pass is there, in the shape that the keys ask for.

use crate::graph::{By, Hyper, Map, Op, SLOTS, Slot};
use crate::model::{EMBEDDING, FINAL_NORM, Model, ModelError, OUTPUT, OUTPUT_NAME, POSITIONS};

impl Hyper {
    /// Width of a slot, where the hyper-parameters decide it.
    pub(super) fn width(&self, slot: Slot) -> Option<usize> {
        let Self { heads, kv_heads, head, value, hidden, rotary, .. } = *self;
        let experts = self.experts.as_ref();
        match slot {
            Slot::Stream | Slot::Normed | Slot::Beside | Slot::Delta => Some(hidden),
            Slot::Fused => Some(match self.latent {
                Some(latent) => latent.rank + rotary,
                None => heads * head + kv_heads * (head + value),
            }),
            Slot::Query => Some(heads * head),
            Slot::Attended => Some(heads * value),
            Slot::Key => Some(kv_heads * head),
            Slot::Value => Some(kv_heads * value),
            Slot::WholeQuery => self.latent.map(|latent| heads * (latent.fixed + rotary)),
            Slot::FixedQuery => self.latent.map(|latent| heads * latent.fixed),
            Slot::LatentQuery => self.latent.map(|latent| heads * latent.rank),
            Slot::Gathered => self.latent.map(|latent| heads * latent.value),
            Slot::TurnedQuery => Some(heads * rotary),
            Slot::TurnedKey => Some(rotary),
            Slot::Router => experts.map(|e| e.count),
            Slot::Routes => experts.map(|e| 2 * e.used),
            Slot::Said => experts.map(|e| e.used * hidden),
            Slot::LowQuery | Slot::Gate | Slot::Up => None,
        }
    }
}

/// Widths of the slots while a layer is gone through.
type Widths = [Option<usize>; SLOTS];

impl Model {
    /// Checks all tensors and returns how wide each slot gets.
    pub(super) fn check_shapes(&self) -> Result<[usize; SLOTS], ModelError> {
        let (hidden, vocab) = (self.hyper.hidden as u64, self.vocab as u64);
        self.check(EMBEDDING, &[hidden, vocab])?;
        self.check(&format!("{FINAL_NORM}.weight"), &[hidden])?;
        if self.find(OUTPUT).is_some() {
            self.check(OUTPUT, &[hidden, vocab])?;
        }
        self.check_bias(OUTPUT_NAME, &[vocab])?;
        if self.graph.learned_positions {
            self.check(POSITIONS, &[hidden, self.hyper.context as u64])?;
        }
        let mut widest = [0; SLOTS];
        for layer in 0..self.hyper.layers {
            let mut widths = Widths::default();
            widths[Slot::Stream as usize] = Some(self.hyper.hidden);
            for op in self.ops(layer) {
                self.check_op(layer, op, &mut widths)?;
                for slot in op.reads().into_iter().chain(op.writes()) {
                    let width = widths[slot as usize].or(self.hyper.width(slot)).unwrap_or(0);
                    widest[slot as usize] = width.max(widest[slot as usize]);
                }
            }
        }
        Ok(widest)
    }

    /// Inputs as wide as the slot that is read, outputs as wide as the slot that is written.
    fn check_op(&self, layer: usize, op: &Op, widths: &mut Widths) -> Result<(), ModelError> {
        let full = |name: &str| format!("blk.{layer}.{name}");
        let width = |slot: Slot, widths: &Widths| self.hyper.width(slot).or(widths[slot as usize]);
        if let Some(map) = op.map() {
            return self.check_map(&full(map.name), &map, widths);
        }
        match *op {
            Op::Norm { input, output, name, .. } => {
                let weight = format!("{}.weight", full(name));
                let tensor = self.tensor(&weight)?;
                let (found, head) = (tensor.columns() as usize, self.hyper.head);
                let whole = width(input, widths).unwrap_or(found);
                let of_heads = matches!(input, Slot::Query | Slot::Key) && tensor.shape.len() > 1;
                let wanted = match of_heads {
                    true => vec![head as u64, (whole / head) as u64],
                    // Part by part, with weights that all heads share, where it is as wide as a head.
                    false => vec![if found == head { head } else { whole } as u64],
                };
                self.check(&weight, &wanted)?;
                self.check_bias(&full(name), &wanted)?;
                widths[output as usize] = Some(whole);
            }
            Op::SplitGate => {
                let up = width(Slot::Up, widths).unwrap_or(0);
                if !up.is_multiple_of(2) {
                    return Err(wrong(&full("ffn_up.weight"), "has an odd number of rows"));
                }
                // The widest counts; what is left are halves.
                widths[Slot::Gate as usize] = Some(up / 2);
                widths[Slot::Up as usize] = Some(up / 2);
            }
            Op::Activate(f) if f.is_gate() && widths[Slot::Gate as usize] != widths[Slot::Up as usize] => {
                return Err(wrong(&full("ffn_gate.weight"), "has not as many rows as ffn_up"));
            }
            Op::Attention { sinks: Some(name) } => {
                self.check(&format!("{}.weight", full(name)), &[self.hyper.heads as u64])?;
            }
            Op::Route { bias } => {
                let Some(experts) = &self.hyper.experts else {
                    return Err(wrong(&full("ffn_gate_inp.weight"), "is there, the key expert_count is not"));
                };
                self.check_bias(&full(bias), &[experts.count as u64])?;
            }
            _ => {}
        }
        Ok(())
    }

    fn check_map(&self, name: &str, map: &Map, widths: &mut Widths) -> Result<(), ModelError> {
        let weight = format!("{name}.weight");
        let tensor = self.tensor(&weight)?;
        let known = |slot: Slot| self.hyper.width(slot).or(widths[slot as usize]);
        let (matrices, parts) = match map.by {
            None => (1, 1),
            Some(By::Heads) => (self.hyper.heads, self.hyper.heads),
            Some(By::Routes) => self.hyper.experts.as_ref().map_or((1, 1), |e| (e.count, e.used)),
        };
        let found = [tensor.columns() as usize, tensor.rows_per_matrix() as usize];
        // A row has a part for every matrix that it meets, but for the stream, which all experts read.
        let input_parts = if map.input == Slot::Normed { 1 } else { parts };
        let inputs = known(map.input).map_or(found[0], |width| width / input_parts);
        let outputs = self.hyper.width(map.output).map_or(found[1], |width| width / parts);
        let mut shape = vec![inputs as u64, outputs as u64];
        shape.extend(map.by.map(|_| matrices as u64));
        self.check(&weight, &shape)?;
        widths[map.output as usize] = Some(outputs * parts);
        let mut bias = vec![outputs as u64];
        bias.extend(map.by.map(|_| matrices as u64));
        self.check_bias(name, &bias)
    }

    /// The bias `name.bias`, if there is one.
    fn check_bias(&self, name: &str, shape: &[u64]) -> Result<(), ModelError> {
        let bias = format!("{name}.bias");
        if self.find(&bias).is_some() { self.check(&bias, shape) } else { Ok(()) }
    }
}

fn wrong(tensor: &str, what: &str) -> ModelError {
    ModelError::Tensor { tensor: tensor.to_owned(), what: what.into() }
}
