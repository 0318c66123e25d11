//! The language that families are written in: entries of tables, dimensions, keys, and the function that maps a
//! checkpoint by them.
//!
//! | module | what |
//! |---|---|
//! | `family` | a family as data, and what follows from it |
//! | `entry` | a row of a family's table: a tensor of the checkpoint and what it becomes |
//! | `entries` | rows that families share |
//! | `mapping` | a table, and the one walk that maps a checkpoint by it |
//! | `dims` | dimensions and their names in tables |
//! | `layers` | sets of layers, where a list says what each layer is |
//! | `place` | the numbers in tensor names |
//! | `keys` | a family's keys while they are collected |
//! | `rope` | rotary position settings |
//! | `heads` | where the output projection is, tied or not |
//! | `state_space` | what families with Mamba 2's state spaces have in common |
//! | `takes` | the values that a family takes of keys that change the computation |
//! | `stored_keys` | keys whose values the checkpoint stores as tensors |
//! | `windows` | sliding windows, and lengths from which a GGUF computes something else |
//! | `yarn` | the multiplier and the keys of YaRN |
//! | `longrope` | the settings of LongRoPE |
//! | `unread` | keys of the configuration that nothing has asked for |
//! | `text` | what most families' configurations have in common |

pub(in crate::arch) mod dims;
pub(in crate::arch) mod entries;
pub(in crate::arch) mod entry;
pub(in crate::arch) mod family;
pub(in crate::arch) mod heads;
pub(in crate::arch) mod keys;
pub(in crate::arch) mod layers;
pub(in crate::arch) mod longrope;
pub(in crate::arch) mod mapping;
pub(in crate::arch) mod place;
pub(in crate::arch) mod rope;
pub(in crate::arch) mod state_space;
mod stored_keys;
pub(in crate::arch) mod takes;
pub(in crate::arch) mod text;
pub(in crate::arch) mod unread;
pub(in crate::arch) mod windows;
pub(in crate::arch) mod yarn;
