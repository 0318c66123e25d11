//! What a teacher predicts over a text.
//!
//! | file | what |
//! |---|---|
//! | `predict` | runs the teacher and keeps the likeliest tokens of each position |
//! | `files` | what it predicted before, in files |
//! | `targets` | the same for some chunks, in the student's tokens |
//! | `lesson` | a text to train on or to judge by, with its predictions |
//!
//! Tokens are chosen and log-probabilities rounded to 16 bits in one place, so that it makes no difference whether a teacher runs
//! beside its student or wrote files before.

mod files;
mod lesson;
mod predict;
mod targets;

pub use files::{TeacherFileError, TeacherFiles};
pub use lesson::{Lesson, Source};
pub use predict::predict;
pub use targets::{StudentTokens, Targets};

pub(super) use lesson::Taught;
