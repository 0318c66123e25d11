//! Tests against llama.cpp's recorded decisions (`peer`), and of what goes beyond them (`options`, `tables`).

mod options;
mod peer;
mod tables;

use kquant_kernels::block::{BlockType, by_name};

use super::{Choice, FILE_TYPES, FileType, ModelFacts, TensorFacts};

fn block(name: &str) -> &'static BlockType {
    by_name(name).unwrap_or_else(|| panic!("no block type {name}"))
}

/// Returns the file type of exactly this name, whether or not it can be written.
fn recipe(name: &str) -> &'static FileType {
    FILE_TYPES.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no file type {name}"))
}

fn tensor<'a>(name: &'a str, shape: &'a [u64], source: &str) -> TensorFacts<'a> {
    TensorFacts { name, shape, source: block(source) }
}

/// Returns the facts of a dense llama of four layers.
fn llama() -> ModelFacts {
    ModelFacts { arch: "llama".to_owned(), layers: 4, heads: 4, heads_kv: 4, ..ModelFacts::default() }
}

fn names(choices: &[Choice]) -> Vec<&'static str> {
    choices.iter().map(|c| c.block.name).collect()
}
