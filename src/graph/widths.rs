//! The widths of slots, as far as the hyper-parameters decide them.

use kquant_kernels::math::Heads;

use crate::graph::{Hyper, Slot};

impl Hyper {
    /// Returns the width of a slot in layer `layer`; `None` if the hyper-parameters do not decide it.
    pub(crate) fn width(&self, slot: Slot, layer: usize) -> Option<usize> {
        let Self { hidden, rotary, .. } = *self;
        let Heads { heads, kv_heads, dim: head, value_dim: value, .. } = self.attention(layer);
        let experts = self.experts.as_ref();
        match slot {
            Slot::Stream | Slot::Normed | Slot::NormedParallel | Slot::Beside | Slot::Delta => Some(hidden),
            Slot::Carried => Some(self.carried_width(layer)),
            Slot::Fused => Some(match self.latent {
                Some(latent) => latent.rank + rotary,
                None => heads * head + kv_heads * (head + value),
            }),
            Slot::Query => Some(heads * head),
            Slot::Attended => Some(heads * value),
            Slot::Key => Some(kv_heads * head),
            Slot::Value => Some(kv_heads * value),
            Slot::AttentionGate => Some(heads * value),
            Slot::Convolved
            | Slot::InputGate
            | Slot::OutputGate
            | Slot::Step
            | Slot::Strength
            | Slot::Scanned => self.recurrent.as_ref().and_then(|recurrent| recurrent.width(slot)),
            Slot::WholeQuery => self.latent.map(|latent| heads * (latent.fixed + rotary)),
            Slot::FixedQuery => self.latent.map(|latent| heads * latent.fixed),
            Slot::LatentQuery => self.latent.map(|latent| heads * latent.rank),
            Slot::Gathered => self.latent.map(|latent| heads * latent.value),
            Slot::Latent => self.latent.map(|latent| latent.rank),
            Slot::KeyValue => self.latent.map(|latent| heads * (latent.fixed + latent.value)),
            Slot::FixedKey => self.latent.map(|latent| heads * latent.fixed),
            Slot::RotaryQuery | Slot::RotaryKeys => Some(heads * rotary),
            Slot::RotaryKey => Some(rotary),
            Slot::Router => experts.map(|e| e.count),
            Slot::Routes => experts.map(|e| 2 * e.used),
            Slot::SharedGate => Some(1),
            Slot::ExpertIn | Slot::ExpertOut => experts.map(|e| e.used * hidden),
            Slot::Mixed | Slot::LowQuery | Slot::Gate | Slot::Up => None,
        }
    }
}
