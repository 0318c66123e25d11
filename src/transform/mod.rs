//! Functions from a converted model to a smaller converted model.
//!
//! | file | what |
//! |---|---|
//! | `choice` | which tokens a trimmed vocabulary keeps |
//! | `channels` | the model with some channels of its feed-forward network |
//! | `lineage` | what the result says of itself: its size, the model that it was made of |
//! | `vocab` | the model with these tokens alone |
//!
//! The forward pass, the plan and the writer take the result as they take any converted model.

mod channels;
mod choice;
mod lineage;
#[cfg(test)]
mod tests;
mod vocab;

pub use channels::{NarrowError, narrow, with_weights};
pub use choice::{Order, order};
pub use lineage::describe;
pub use vocab::{TrimError, trim};
