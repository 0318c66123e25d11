//! Checkpoints that are quantized already: decoded to what their codes stand for, refused where they cannot be.
#![allow(clippy::unwrap_used)]

mod layouts;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod values;
