//! Calibration: statistics of the activations that a text causes.
//!
//! The forward pass calls an [`Observer`](crate::model::Observer). [`Importance`] is the one that makes importance
//! matrices, which [`merge`] adds and [`MatrixStatistics`] describe; [`gather`] makes statistics files, which hold Hessians as
//! well, [`merge_hessians`] adds them and [`HessianFile`] reads them.

mod collect;
mod describe;
mod exact;
mod factors;
mod fisher_sums;
mod fishers;
mod form;
mod gather;
mod hessian_file;
mod hessians;
mod importance;
mod merge;
mod merge_hessians;
mod outer;
mod output_input;
pub(crate) mod pool;
mod tied;
mod unreached;

pub use collect::{collect, work};
pub use describe::{Coverage, EntryStatistics, LayerShare, MatrixStatistics};
pub use factors::Factors;
pub use fishers::{Fishers, Labelled};
pub use form::{Form, UnknownForm};
pub use gather::{GatherError, Gathered, Text, Wanted, gather};
pub use hessian_file::{GroupHessians, HessianFile};
pub use importance::Importance;
pub use kquant_formats::hessian::Half;
pub use merge::{MergeError, Merged, merge};
pub use merge_hessians::{HessianMergeError, merge_hessians};
pub use tied::name_output;
pub use unreached::Unreached;
