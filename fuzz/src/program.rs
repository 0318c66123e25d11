//! Readers and whole files of everything beside a model.
#[path = "../../tests/it/mutants/readers.rs"]
pub mod readers;
#[path = "../../tests/it/mutants/seeds.rs"]
pub mod seeds;
