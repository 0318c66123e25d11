//! Weights that were quantized before: codes and scales in the layouts of GPTQ, AWQ and compressed-tensors.
//!
//! | file | what |
//! |---|---|
//! | `config` | the settings in the configuration |
//! | `left_over` | settings without packed weights |
//! | `parts` | the file's tensors that together are one weight |
//! | `autogptq`, `compressed` | layouts, checked |
//! | `codes` | integers packed into words |
//! | `packed` | weights of codes, scales and zero points: rows gathered and decoded |
//! | `scales` | scales of weights that are stored a byte each |

mod autogptq;
mod codes;
mod compressed;
mod config;
mod left_over;
mod packed;
mod parts;
mod scales;

pub use config::Quantization;
pub(super) use left_over::left_over;
pub(super) use packed::{E4M3, E5M2, Levels, Packed, SIGNED};
pub(super) use parts::{Parts, Weight};
pub(super) use scales::Scales;
