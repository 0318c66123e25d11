//! A converted model written back as a Hugging Face folder, which transformers loads and kquant reads again.
//!
//! The new `config.json` says which tensors the new checkpoint has, and the family's own table what they become in GGUF, so
//! that each is put together from the converted tensors that are made of it, the other way round. No family has code of its
//! own here.
//!
//! | file | what |
//! |---|---|
//! | `plan` | the new checkpoint: its tensors, and the converted tensors that each is put together from |
//! | `outline` | names, shapes and types of those tensors |
//! | `layers` | which layers of the source the new ones were |
//! | `config` | `config.json` with the new numbers |
//! | `place` | where the weights of a converted tensor stand in a checkpoint tensor |
//! | `rebuild` | rows of a checkpoint tensor |
//! | `tokens` | which tokens of the source are kept |
//! | `tokenizer`, `ids` | the tokenizer's files, and other files that name tokens by id |
//! | `files` | which other files are copied |
//! | `write` | everything in a folder that appears when it is complete and reads back as the same model |

mod config;
mod error;
mod files;
mod ids;
mod layers;
mod outline;
mod place;
mod plan;
mod rebuild;
#[cfg(test)]
mod tests;
mod tokenizer;
mod tokens;
mod write;

pub use error::FolderError;
pub use plan::NewFolder;
pub use write::write;
