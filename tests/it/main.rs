//! Whole-program tests, one module per subject, in one binary: linking takes longer than most of them run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arch;
mod both_sides;
#[cfg(unix)]
mod bounded;
mod calibrate;
mod calibrated;
mod configuration;
mod distill;
mod evaluate;
mod evaluate_model;
mod fisher;
mod forward;
mod golden_tiny;
mod hessian;
mod imatrix;
mod json_files;
mod malformed;
mod messages;
mod metadata;
mod mixture;
mod names;
mod outputs;
mod overflow;
mod overrides;
mod own_text;
mod path_names;
mod pointers;
mod prune;
mod prune_base;
mod prune_folder;
mod prune_parts;
mod quantize;
mod quantize_pruned;
mod quantized_inputs;
mod reading;
mod resume;
mod rooms;
mod sample;
mod sizes;
mod special_inputs;
mod support;
mod tokenize;
mod unreached;
mod vocabulary;
mod weights;
