//! kquant shrinks language models: a checkpoint in, a quantized GGUF that stock llama.cpp runs out.
//!
//! | room | what |
//! |---|---|
//! | [`context`] | what every long run is given: how to tell of its progress |
//! | [`checkpoint`] | opens any input: named tensors, shapes, rows as f32 |
//! | [`tensor`] | tensors of a converted model: where their rows come from, reading them, encoded ones that stand in |
//! | [`graph`] | a layer as a list of operations, and the numbers that they need, read from GGUF keys |
//! | [`arch`] | model families: Hugging Face names and hyper-parameters to GGUF's |
//! | [`vocab`] | Hugging Face tokenizers to GGUF keys, text to token ids |
//! | [`convert`] | a checkpoint as a converted model: GGUF names, shapes, metadata |
//! | [`transform`] | a converted model made smaller: without some tokens, channels, heads, experts or layers |
//! | [`folder`] | a converted model written back as a Hugging Face folder |
//! | [`recipe`] | which type each tensor gets |
//! | [`plan`] | the complete list of output tensors, as data |
//! | [`text`] | a tokenized text as chunks, blocks and parts |
//! | [`statistics`] | statistics of activations: importance matrices made, merged, described |
//! | [`prices`] | what each tensor costs at each type |
//! | [`layerwise`] | encoding layer by layer, with feedback from a text |
//! | [`prune`] | which channels, heads, experts and layers are kept, and weights that make up for the others |
//! | [`distill`] | a student's weights are moved until it predicts what its teacher does |
//! | [`encode`] | rows and statistics to block bytes |
//! | [`pipeline`] | reads, encodes and writes a plan within a memory budget |
//! | [`model`] | the inference loop, layer by layer |
//! | [`evaluate`] | logits to perplexity and KL divergence |
//! | [`hash`] | hashes and manifests |
//! | [`shards`] | a GGUF's tensors in other files: split, merged |
//! | [`parts`] | a model that several machines encode, each its part |
//! | [`model_card`] | README.md of quantized files |
//! | [`chart`] | charts as SVG |
//! | [`report`] | a page of HTML to look at: what was made of what, and what that costs |
//! | [`outputs`] | no output takes the place of an input |
//! | [`threads`] | threads to compute on |
//! | [`job`] | the main job, from the first to the last of these |

#![forbid(unsafe_code)]

pub mod arch;
pub mod chart;
pub mod checkpoint;
pub mod context;
pub mod convert;
pub mod distill;
pub mod encode;
pub mod evaluate;
mod facade;
pub mod folder;
pub mod graph;
pub mod hash;
pub mod job;
pub mod layerwise;
pub mod model;
pub mod model_card;
pub mod outputs;
pub mod parts;
pub mod pipeline;
pub mod plan;
pub mod prices;
pub mod prune;
pub mod recipe;
pub mod report;
pub mod shards;
pub mod statistics;
mod symmetric;
pub mod tensor;
pub mod text;
pub mod threads;
pub mod transform;
pub mod vocab;

pub use facade::{Error, Quality, Quantizer, Settings, calibrate, score};
pub use hash::digest;

/// The examples of the guide, which are compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
mod guide {}
