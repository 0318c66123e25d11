//! Distillation: a student's weights are moved until its predictions are those of a teacher.
//!
//! ```text
//! teacher -> targets: the likeliest tokens of each position, and what all others get
//! student: forward and back over a batch -> gradients of weights -> optimizer -> weights -> next batch
//! held-out text: divergence before, on the way and at the end
//! ```
//!
//! | file | what |
//! |---|---|
//! | `targets` | the teacher's distributions over a text |
//! | `parameters` | the student's weights, which the model reads in the place of its file's |
//! | `gradients` | sums of gradients of weights over a batch |
//! | `optimizer/` | gradients to steps: the natural gradient by Kronecker factors, and Adam |
//! | `schedule` | the size of steps by their number |
//! | `run` | the loop |
//!
//! No bit of the result depends on the number of threads or on the memory.

mod error;
mod gradients;
mod optimizer;
mod parameters;
mod report;
mod run;
mod schedule;
mod targets;

pub use error::DistillError;
pub use optimizer::Method;
pub use parameters::{Parameters, Trained};
pub use report::{DistillReport, Measured};
pub use run::{Distillation, Distilled};
pub use targets::{Targets, TeacherModel};
