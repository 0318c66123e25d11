//! Pure compute on slices for kquant: no files, no threads, no clocks.
//!
//! | folder | what |
//! |---|---|
//! | [`block`] | the GGUF block types, one file each: layout, decode, encode. The file is the definition of its type. |
//! | [`codec`] | block types as calibrated encoders see them, and the encoders that are not ggml's |
//! | `block::fit` | the scale searches that the encoders share |
//! | [`feedback`] | the inner loops of the encoder that minimises the loss under a full Hessian |
//! | [`linalg`] | matrix products |
//! | [`math`] | norms, rotary positions, attention, activations |
//! | `lanes` | numbers side by side, for the searches |
//! | [`isa`] | loops compiled once per instruction set |
//! | [`sha256`] | SHA-256 of the same bytes in several hashes at once |
//! | [`rounding`] | activations as stock llama.cpp rounds them |
//! | [`float8`] | the 8-bit floats of checkpoints, which GGUF has no type for |

pub mod block;
pub mod codec;
pub mod feedback;
pub mod float8;
pub mod isa;
mod lanes;
pub mod linalg;
pub mod math;
pub mod rounding;
pub mod sha256;
