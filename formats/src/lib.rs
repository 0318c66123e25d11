//! Bytes to structures and back, safe on hostile input. No arithmetic on weights.
//!
//! | module | what |
//! |---|---|
//! | [`gguf`] | values, metadata, reader, writer, split files |

pub mod gguf;
