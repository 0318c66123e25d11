//! Checkpoints that are quantized already: decoded to what their codes stand for, refused where they cannot be.
mod layouts;
mod left_over;
mod refusals;
mod values;
