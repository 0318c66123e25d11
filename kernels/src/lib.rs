//! Pure compute on slices for kquant. The crate opens no files, starts no threads and reads no clocks.
//!
//! Every result is defined to the bit: all instruction sets give the same bytes, and a type's encoder gives those of
//! ggml. Where remarks in the code give speeds without naming a machine, they are million weights per second on one
//! core of an AMD EPYC with AVX-512 (family 25, model 17); the tables behind them are in `docs/measurements.md`.
//!
//! | folder | what |
//! |---|---|
//! | [`block`] | the GGUF block types, one file each: layout, decode, encode. The file is the definition of its type. |
//! | [`codec`] | block types as scales, offsets and codes, and the search encoder that works on them |
//! | `block::fit` | the scale searches that the encoders share |
//! | [`feedback`] | the inner loops of the encoder that minimises the loss under a full Hessian |
//! | [`linalg`] | matrix products |
//! | [`math`] | norms, rotary positions, attention, activations |
//! | `lanes` | vectors of f32 on which the scale searches run, one group of weights per lane |
//! | [`isa`] | loops compiled once per instruction set |
//! | [`sha256`] | SHA-256 of the same bytes in several hashes at once |
//! | [`rounding`] | the rounding that stock llama.cpp applies to activations |
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
