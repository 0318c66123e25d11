//! The forward pass against the logits that transformers computes (tests/data/archs/*/logits.f32, in f32).

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::support::{Scratch, archs, data, ok, quantize};
use kquant::context::Silent;
use kquant::model::{Model, Pass, Products};
use serde_json::Value as Json;

/// Largest absolute difference of a logit: two orders of summation in f32.
const EXACT: f32 = 5e-5;

/// The tokens that transformers was given, and its logits, `[tokens][vocabulary]`.
fn expected(folder: &Path) -> (Vec<u32>, Vec<f32>) {
    let json: Json = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let tokens: Vec<u32> = serde_json::from_value(json["tokens"].clone()).unwrap();
    let bytes = fs::read(folder.join("logits.f32")).unwrap();
    let logits: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(json["shape"], serde_json::json!([tokens.len(), logits.len() / tokens.len()]));
    (tokens, logits)
}

/// Logits of all positions of `tokens`, cut into chunks of `context`; weights of the output held if they fit `head_memory`.
fn logits(model: &Model, tokens: &[u32], context: usize, head_memory: u64) -> Vec<f32> {
    let cancel = AtomicBool::new(false);
    let pass = Pass { context, memory: 1 << 28, cancel: &cancel, progress: &Silent };
    let hidden = model.hidden(tokens, &pass, None, 0).unwrap();
    let head = model.head(head_memory).unwrap();
    let mut all = Vec::new();
    let mut row = Vec::new();
    for chunk in 0..tokens.len() / context {
        let logits = head.logits(&head.normed(hidden.rows(chunk * context, context))).unwrap();
        for position in 0..context {
            logits.row(position, &mut row);
            assert_eq!(row.len(), model.vocab_size());
            all.extend_from_slice(&row);
        }
    }
    all
}

fn assert_close(case: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{case}");
    let spread = theirs.iter().fold(0f32, |max, v| max.max(v.abs()));
    assert!(spread > 1000.0 * EXACT, "{case}: nothing to compare, no logit is beyond {spread}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= EXACT, "{case}: logit {i} is {a}, not {b}");
    }
}

/// Folder and GGUF, both layouts of the configuration, token by token.
fn equals_transformers(folder: &Path) {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let scratch = Scratch::new(&format!("forward-{name}"));
    let (tokens, expected) = expected(folder);
    let of = |path: &Path| logits(&Model::open(path, None).unwrap(), &tokens, tokens.len(), u64::MAX);

    let from_folder = of(folder);
    let gguf = scratch.path("model-f32.gguf");
    ok(quantize(folder, &gguf, "F32", &[]));
    assert_eq!(of(&gguf), from_folder, "{name}: the GGUF has the same weights");
    assert_close(name, &from_folder, &expected);
    token_by_token(name, &Model::open(&gguf, None).unwrap(), &tokens, &expected);

    let newer = scratch.path("newer");
    fs::create_dir(&newer).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(folder.join(file), newer.join(file)).unwrap();
    }
    fs::copy(folder.join("config-v5.json"), newer.join("config.json")).unwrap();
    assert_eq!(of(&newer), from_folder, "{name}: the layout of transformers 5 says the same");
}

fn token_by_token(name: &str, model: &Model, tokens: &[u32], whole: &[f32]) {
    for memory in [0, u64::MAX] {
        let mut session = model.session(memory, usize::MAX).unwrap();
        let mut ours = session.feed(&tokens[..7]).unwrap();
        for token in &tokens[7..] {
            ours.extend(session.feed(&[*token]).unwrap());
        }
        assert_close(name, &ours, &whole[6 * model.vocab_size()..]);
    }
}

#[test]
fn every_folder() {
    let [supported, _] = archs::supported_and_pending();
    for folder in supported {
        equals_transformers(&folder);
    }
}

#[test]
fn bf16_products_are_close_and_hold_for_any_cut() {
    for name in ["llama", "gpt2"] {
        let folder = data("archs").join(name);
        let (tokens, _) = expected(&folder);
        let mut model = Model::open(&folder, None).unwrap();
        let exact = logits(&model, &tokens, tokens.len(), u64::MAX);
        model.compute_in(Products::Bf16);
        let ours = logits(&model, &tokens, tokens.len(), u64::MAX);
        let rms =
            |x: &mut dyn Iterator<Item = f32>| (x.map(|v| v * v).sum::<f32>() / exact.len() as f32).sqrt();
        let error = rms(&mut ours.iter().zip(&exact).map(|(a, b)| a - b)) / rms(&mut exact.iter().copied());
        // A few roundings to 8 bits, each of up to 2^-9.
        assert!((1e-4..2e-2).contains(&error), "{name}: {error}");
        assert!(logits(&model, &tokens, tokens.len(), 0) == ours, "{name}: weights not held");
        let twice: Vec<u32> = tokens.iter().chain(&tokens).copied().collect();
        assert!(logits(&model, &twice, tokens.len(), 0) == [&*ours, &*ours].concat(), "{name}: two chunks");
    }
}

#[test]
fn chunks_do_not_see_each_other_nor_the_tiles() {
    for name in ["llama", "gpt2", "lfm2", "qwen3_5", "mamba2"] {
        let folder = data("archs").join(name);
        let (tokens, _) = expected(&folder);
        let model = Model::open(&folder, None).unwrap();
        let whole = logits(&model, &tokens, tokens.len(), u64::MAX);
        // The first half of the text, again and again: what follows a position does not change it.
        let half = tokens.len() / 2;
        let repeated: Vec<u32> = tokens[..half].iter().copied().cycle().take(60 * half).collect();
        let ours = logits(&model, &repeated, half, 0);
        let one = half * model.vocab_size();
        assert_close(name, &ours[..one], &whole[..one]);
        assert!(ours.chunks_exact(one).all(|chunk| chunk == &ours[..one]), "{name}");
    }
}

#[test]
fn keys_that_make_no_model_are_refused() {
    let scratch = Scratch::new("forward-keys");
    for (model, key, fragment) in [
        (
            "llama",
            "llama.block_count=int:4000000000",
            "`llama.block_count` is more than the model has tensors",
        ),
        ("llama", "llama.attention.head_count=int:3", "`llama.attention.head_count_kv` must divide"),
        ("gemma2", "gemma2.attention.sliding_window_pattern=int:0", "is no positive whole number"),
        ("mixtral", "llama.expert_used_count=int:5", "`llama.expert_used_count` is more than expert_count"),
        ("mixtral", "llama.expert_count=int:3", "tensor `blk.0.ffn_gate_inp.weight` has shape"),
        ("deepseek_v3", "deepseek2.expert_group_count=int:3", "leave too few experts"),
        ("deepseek_v3", "deepseek2.expert_gating_func=int:9", "is a function that is not supported yet"),
        ("deepseek_v3", "deepseek2.rope.dimension_count=int:48", "must be less than key_length_mla"),
        ("deepseek_v3", "deepseek2.attention.kv_lora_rank=int:16", "has shape"),
        ("gpt_oss", "gpt-oss.rope.scaling.type=str:ntk", "is none of none, linear, yarn and longrope"),
        ("lfm2", "lfm2.shortconv.l_cache=int:4", "tensor `blk.0.shortconv.conv.weight` has shape"),
        ("qwen3_5", "qwen35.ssm.group_count=int:3", "must divide ssm.inner_size and be a multiple of"),
        (
            "mamba2",
            "mamba2.ssm.state_size=int:8",
            "`blk.0.ssm_in.weight` has 296 rows, the model's keys ask for 280",
        ),
    ] {
        let out = scratch.path("model.gguf");
        ok(quantize(&data("archs").join(model), &out, "F32", &["--force", "--override-kv", key]));
        let error = Model::open(&out, None).err().unwrap().to_string();
        assert!(error.contains(fragment), "{key}: {error}");
    }
}

#[test]
fn norms_of_heads_have_the_shape_of_the_heads() {
    let scratch = Scratch::new("forward-heads");
    let out = scratch.path("model.gguf");
    let [heads, kv_heads] =
        ["head_count=int:6", "head_count_kv=int:2"].map(|key| format!("stablelm.attention.{key}"));
    let more = ["--override-kv", &heads, "--override-kv", &kv_heads];
    ok(quantize(&data("archs/stablelm2"), &out, "F32", &more));
    let error = Model::open(&out, None).err().unwrap().to_string();
    let expected =
        "`blk.0.attn_q_norm.weight` has shape [8, 12] (columns first), the model's keys ask for [16, 6]";
    assert!(error.contains(expected), "{error}");
}
