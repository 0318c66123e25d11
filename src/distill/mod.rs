//! Distillation: a student's weights are moved until its predictions are those of a teacher.
//!
//! ```text
//! teacher -> predictions: the likeliest tokens of each position, and what all others get
//! student: forward and back over a batch -> gradients of weights -> optimizer -> weights -> next batch
//! held-out text: divergence before, on the way and at the end
//! ```
//!
//! | file | what |
//! |---|---|
//! | `teacher/` | the teacher's predictions over a text, beside the student or from files |
//! | `parameters` | the student's weights, which the model reads in the place of its file's |
//! | `gradients` | sums of gradients of weights over a batch |
//! | `optimizer/` | gradients to steps: the natural gradient by Kronecker factors, and Adam |
//! | `schedule` | the size of steps by their number |
//! | `run` | a student, its teacher and the texts |
//! | `training` | the loop |
//! | `checkpoint` | the state of a run in a file |
//!
//! No bit of the result depends on the number of threads or on the memory.

mod checkpoint;
mod error;
mod gradients;
mod optimizer;
mod parameters;
mod report;
mod run;
mod schedule;
mod teacher;
mod training;

pub use checkpoint::Checkpoints;
pub use error::DistillError;
pub use optimizer::Method;
pub use parameters::{Parameters, Trained};
pub use report::{DistillReport, Measured};
pub use run::{Distillation, Distilled};
pub use schedule::Length;
pub use teacher::{Lesson, Source, StudentTokens, Targets, TeacherFileError, TeacherFiles, predict};
