//! The families, one file each, with a table of tensors, keys and a graph.

mod apertus;
mod arcee;
mod bamba;
mod bert;
mod bitnet;
mod cohere;
mod cohere2;
mod deepseek2;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone4;
mod falcon;
mod falcon_h1;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod gemma_embedding;
mod glm4;
mod glm4_moe;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod granite;
mod granite_hybrid;
mod granite_moe;
mod hunyuan;
mod hunyuan_moe;
mod lfm2;
mod llama;
mod llama4;
mod maincoder;
mod mamba2;
mod minicpm;
mod minicpm3;
mod minimax_m2;
mod mistral;
mod mistral3;
mod mixtral;
mod modern_bert;
mod nemotron;
mod nemotron_h;
mod nomic_bert;
mod olmo2;
mod olmo3;
mod olmoe;
mod orion;
mod pangu;
mod phi2;
mod phi3;
mod phimoe;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_moe;
mod qwen_vl;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;
mod xverse;

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
    &gemma4::FAMILY,
    &phi2::FAMILY,
    &phi3::FAMILY,
    &smollm3::FAMILY,
    &olmo2::FAMILY,
    &olmo3::FAMILY,
    &granite::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
    &gpt2::FAMILY,
    &gpt_neox::FAMILY,
    &gpt_oss::FAMILY,
    &deepseek2::FAMILY,
    &arcee::FAMILY,
    &apertus::FAMILY,
    &seed_oss::FAMILY,
    &ernie4_5::FAMILY,
    &ernie4_5_moe::FAMILY,
    &olmoe::FAMILY,
    &qwen2_moe::FAMILY,
    &dots1::FAMILY,
    &minimax_m2::FAMILY,
    &granite_moe::FAMILY,
    &glm4::FAMILY,
    &glm4_moe::FAMILY,
    &exaone4::FAMILY,
    &cohere2::FAMILY,
    &hunyuan::FAMILY,
    &hunyuan_moe::FAMILY,
    &mistral3::FAMILY,
    &nemotron::FAMILY,
    &bitnet::FAMILY,
    &falcon::FAMILY,
    &phimoe::FAMILY,
    &minicpm3::FAMILY,
    &llama4::FAMILY,
    &lfm2::FAMILY,
    &lfm2::MIXTURE_FAMILY,
    &mamba2::FAMILY,
    &granite_hybrid::FAMILY,
    &bamba::FAMILY,
    &falcon_h1::FAMILY,
    &nemotron_h::FAMILY,
    &nemotron_h::MIXTURE_FAMILY,
    &bert::FAMILY,
    &bert::ROBERTA_FAMILY,
    &nomic_bert::FAMILY,
    &modern_bert::FAMILY,
    &gemma_embedding::FAMILY,
    &qwen_vl::SECOND_FAMILY,
    &qwen_vl::THIRD_FAMILY,
    &qwen_vl::MIXTURE_FAMILY,
    &cohere::FAMILY,
    &minicpm::FAMILY,
    &orion::FAMILY,
    &xverse::FAMILY,
    &maincoder::FAMILY,
    &pangu::FAMILY,
];
