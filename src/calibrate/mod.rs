//! Calibration: statistics of the activations that a text causes.
//!
//! The forward pass calls an [`Observer`]. [`Importance`] is the one that makes importance matrices, which [`merge`] adds up
//! and [`Statistics`] describe; [`gather`] makes statistics files, which have Hessians besides, [`merge_hessians`] adds them
//! up and [`HessianFile`] reads them.

mod collect;
mod exact;
mod fisher_sums;
mod fishers;
mod form;
mod gather;
mod gradient_observer;
mod hessian_file;
mod hessians;
mod importance;
mod merge;
mod merge_hessians;
mod observer;
mod outer;
mod output_input;
mod part;
pub(crate) mod pool;
mod statistics;

pub use collect::{collect, work};
pub use fishers::{Fishers, Labelled};
pub use form::{Form, UnknownForm};
pub(crate) use gather::HELD_OUT_EVERY;
pub use gather::{GatherError, Gathered, Text, Wanted, gather};
pub use gradient_observer::GradientObserver;
pub use hessian_file::{GroupHessians, HessianFile};
pub use importance::Importance;
pub use kquant_formats::hessian::Half;
pub use merge::{MergeError, Merged, merge};
pub use merge_hessians::{HessianMergeError, merge_hessians};
pub use observer::{ObserveError, Observer};
pub use part::{Part, PartError};
pub use statistics::{Coverage, EntryStatistics, LayerShare, Statistics};
