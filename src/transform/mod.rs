//! Functions from a converted model to a smaller converted model.
//!
//! | file | what |
//! |---|---|
//! | `choice` | which tokens a trimmed vocabulary keeps |
//! | `channels` | the model with some channels of its feed-forward network |
//! | `lineage` | what the result says of itself: its size, the model that it was made of |
//! | `experts` | the model with some of its experts |
//! | `further` | blocks after the last layer, which nothing is cut of |
//! | `heads` | the model with some of its attention heads |
//! | `layers` | the model with some of its layers |
//! | `vocab` | the model with these tokens alone |
//!
//! The forward pass, the plan and the writer take the result as they take any converted model.

mod channels;
mod choice;
mod experts;
mod further;
mod heads;
mod layers;
mod lineage;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_layers;
mod vocab;

pub use channels::{NarrowError, changed, narrow};
pub use choice::{Order, order};
pub use experts::{ExpertsError, keep_experts};
pub use heads::{HeadsError, check_heads, keep_heads};
pub use layers::{LayersError, check_layers, keep_layers, period, without};
pub use lineage::describe;
pub use vocab::{TrimError, trim};
