//! Pure compute on slices for kquant: no files, no threads, no clocks.
//!
//! | folder | what |
//! |---|---|
//! | [`block`] | the GGUF block types, one file each: layout, decode, encode. The file is the definition of its type. |
//! | `search` | the scale searches that the encoders share |

pub mod block;
mod search;
