//! Readers and whole files of the formats.
#[path = "../../formats/tests/it/common/readers.rs"]
pub mod readers;
#[path = "../../formats/tests/it/common/seeds/mod.rs"]
pub mod seeds;
