//! The choice of the channels of the feed-forward network that are kept, with weights that make up for those that are cut.
//!
//! A channel is a row of `ffn_gate` and `ffn_up` and a column of `ffn_down`. [`Channels`] goes through the layers with two
//! streams, that of the original and that of the model pruned so far. A pruned layer is described as one of the source's
//! shapes whose `ffn_down` is zero in the columns that are cut, so that the model itself runs it.

mod channels;
mod error;
mod greedy;
mod layer;
mod moments;
mod pass;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_runs;
mod weights;
mod width;

pub use channels::{Channels, PrunedChannels, channels};
pub use error::PruneError;
pub use layer::{LayerChoice, Score};
pub use width::Width;
