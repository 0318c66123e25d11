//! Unusable input through the whole program: a message that helps, exit code 2, no panic, nothing left behind.
mod checkpoints;
mod configurations;
pub mod gguf;
mod options;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Scratch, quantize, refused};

/// Makes an input in the folder; returns its path.
pub type Make = fn(&Path) -> PathBuf;

/// Runs `kquant quantize` on each case's input and wants it refused with the fragment in the message.
pub fn check(group: &str, cases: &[(&str, Make, &[&str], &str)]) {
    let scratch = Scratch::new(group);
    for (number, (case, make, options, fragment)) in cases.iter().enumerate() {
        let folder = scratch.path(&format!("in{number}"));
        fs::create_dir_all(&folder).unwrap();
        let model = make(&folder);
        let out = scratch.path(&format!("out{number}.gguf"));
        refused(case, &quantize(&model, &out, "Q4_K_M", options), fragment, &out);
    }
}
