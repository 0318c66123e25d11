//! The tests of the block types against recorded bytes, and of their properties and codecs, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod codec;
mod golden;
mod k_quants;
mod limits;
mod properties;
mod search;
mod vector_codec;
