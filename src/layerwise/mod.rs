//! Calibrated encoding: tensors are encoded before they are written, with statistics of their inputs over a text.
//!
//! [`Sequential`] goes through the model layer by layer with two streams, one of the original and one of the weights
//! encoded so far, so that each group of linear maps repairs the losses of those before it. [`OneShot`] runs no text: it
//! takes the Hessians of the original model from a file. The result is a [`Stash`](crate::tensor::Stash) that the
//! pipeline writes from.

mod embedding;
mod error;
mod estimate;
mod input;
mod job;
pub mod journal;
mod losses;
mod matrices;
mod moments;
mod one_shot;
mod outputs;
mod pass;
mod range;
mod report;
mod sequential;
mod streams;
mod target;

pub use error::CalibratedError;
pub use estimate::Estimate;
pub(crate) use input::Halves;
pub use job::{Calibrated, Calibration, CalibrationSource, FisherSource};
pub use journal::{Journal, JournalError};
pub(crate) use losses::losses;
pub(crate) use moments::MeanMoments;
pub use one_shot::OneShot;
pub use outputs::OutputFishers;
pub use report::{CalibrationReport, TensorReport};
pub use sequential::Sequential;
pub(crate) use streams::{Side, Streams};
