//! The families, one file each, with a table of tensors, keys and a graph.

mod deepseek2;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod granite;
mod granite_hybrid;
mod lfm2;
mod llama;
mod mamba2;
mod mistral;
mod mixtral;
mod olmo2;
mod phi2;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_moe;
mod smollm3;
mod stablelm;
mod starcoder2;

use super::Architecture;

/// The registry: a class belongs to the first family that lists it.
pub(super) static FAMILIES: &[&dyn Architecture] = &[
    &llama::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &qwen3_5::FAMILY,
    &qwen3_5_moe::FAMILY,
    &qwen3_5_moe::NEXT_FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &phi2::FAMILY,
    &phi3::FAMILY,
    &smollm3::FAMILY,
    &olmo2::FAMILY,
    &granite::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
    &gpt2::FAMILY,
    &gpt_neox::FAMILY,
    &gpt_oss::FAMILY,
    &deepseek2::FAMILY,
    &lfm2::FAMILY,
    &lfm2::MIXTURE_FAMILY,
    &mamba2::FAMILY,
    &granite_hybrid::FAMILY,
];
