//! The `kquant` program.
#![forbid(unsafe_code)]

fn main() {}
