//! Calibration: statistics of the activations that a text causes.
//!
//! The forward pass calls an [`Observer`]; [`Importance`] is the one that makes importance matrices, which [`merge`] adds up
//! and [`Statistics`] describe.

mod collect;
mod form;
mod importance;
mod merge;
mod observer;
mod statistics;

pub use collect::{collect, work};
pub use form::{Form, UnknownForm};
pub use importance::Importance;
pub use merge::{MergeError, Merged, merge};
pub use observer::{ObserveError, Observer};
pub use statistics::{Coverage, EntryStatistics, LayerShare, Statistics};
