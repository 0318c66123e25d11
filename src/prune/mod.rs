//! The choice of what is kept of a model, with weights that make up for what is cut.
//!
//! Channels of the feed-forward network: a channel is a row of `ffn_gate` and `ffn_up` and a column of `ffn_down`. [`Channels`] goes through the layers with two
//! streams, that of the original and that of the model pruned so far. A pruned layer is described as one of the source's
//! shapes whose `ffn_down` is zero in the columns that are cut, so that the model itself runs it.
//!
//! Heads: the same with blocks of columns of `attn_output`, those of a key-value head and of the query heads that attend to it.
//!
//! Experts: [`Experts`] goes through the layers with the same two streams and weighs what tokens lose that were routed to an expert.
//!
//! Layers: [`Layers`] takes out the runs of layers whose absence costs least in real KL divergence on a sample, and moves what is left
//! by least squares.

mod amount;
mod channels;
mod down;
mod error;
mod experts;
mod greedy;
mod judge;
mod layer;
mod layers;
mod moments;
mod pass;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_experts;
#[cfg(test)]
mod tests_of_layers;
#[cfg(test)]
mod tests_of_runs;
mod weights;

pub use amount::Amount;
pub use channels::{Channels, Columns, PrunedChannels, channels, head_groups_left};
pub use error::PruneError;
pub use experts::{ExpertChoice, ExpertScore, Experts, PrunedExperts, experts_left};
pub use layer::{LayerChoice, Score};
pub use layers::{LayerCost, LayerScore, Layers, MadeUp, PrunedLayers, layers_at_a_time};
