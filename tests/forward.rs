//! The forward pass against the logits that transformers computes (tests/data/archs/*/logits.f32, in f32).
//!
//! Its models had been in bf16 once, their tables of rotary frequencies with them: those logits stray from the model's by
//! some 1e-2, the more the later the position. Ours are compared with the same rounded frequencies.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use half::bf16;
use kquant::checkpoint::type_layout;
use kquant::model::{Model, Pass, Products};
use kquant::progress::Silent;
use kquant_formats::gguf::{Gguf, TensorSpec, layout};
use serde_json::Value as Json;
use support::{Scratch, data, ok, quantize};

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

/// Copies the llama `from`, a GGUF in F32, to `to`; `rope_freqs.weight` there rounds its rotary frequencies to bf16.
fn round_frequencies(from: &Path, to: &Path) {
    let hyper = Model::open(from, None).unwrap().hyper;
    let gguf = Gguf::open(from, type_layout).unwrap();
    let mut tensors: Vec<(String, Vec<u64>, Vec<u8>)> =
        gguf.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), gguf.data(t).unwrap())).collect();
    let name = "rope_freqs.weight";
    let old = tensors.iter().position(|t| t.0 == name).map(|at| tensors.remove(at).2);
    let factor = |pair: usize| match &old {
        Some(data) => f64::from(f32::from_le_bytes(data[4 * pair..][..4].try_into().unwrap())),
        None => 1.0,
    };
    let pairs = hyper.rotary / 2;
    let factors = (0..pairs).flat_map(|pair| {
        let frequency = f64::from(hyper.rope_base).powf(-(pair as f64) / pairs as f64);
        let rounded = bf16::from_f64(frequency / factor(pair)).to_f64();
        ((frequency / rounded) as f32).to_le_bytes()
    });
    tensors.push((name.into(), vec![pairs as u64], factors.collect()));
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, shape, data)| TensorSpec {
            name: name.clone(),
            shape: shape.clone(),
            type_id: 0,
            bytes: data.len() as u64,
        })
        .collect();
    let placed = layout(gguf.metadata(), &specs).unwrap();
    let mut bytes = placed.header;
    bytes.resize(placed.total as usize, 0);
    for ((_, _, data), offset) in tensors.iter().zip(placed.offsets) {
        bytes[offset as usize..][..data.len()].copy_from_slice(data);
    }
    fs::write(to, bytes).unwrap();
}

/// Folder and GGUF, both layouts of the configuration.
fn equals_transformers(name: &str) {
    let scratch = Scratch::new(&format!("forward-{name}"));
    let folder = data("archs").join(name);
    let (tokens, expected) = expected(&folder);
    let of = |path: &Path| logits(&Model::open(path, None).unwrap(), &tokens, tokens.len(), u64::MAX);

    let from_folder = of(&folder);
    let gguf = scratch.path("model-f32.gguf");
    ok(quantize(&folder, &gguf, "F32", &[]));
    assert_eq!(of(&gguf), from_folder, "{name}: the GGUF has the same weights");
    if name == "gpt2" {
        assert_close(name, &from_folder, &expected);
    } else {
        let rounded = scratch.path("rounded.gguf");
        round_frequencies(&gguf, &rounded);
        assert_close(name, &of(&rounded), &expected);
    }

    let newer = scratch.path("newer");
    fs::create_dir(&newer).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(folder.join(file), newer.join(file)).unwrap();
    }
    fs::copy(folder.join("config-v5.json"), newer.join("config.json")).unwrap();
    assert_eq!(of(&newer), from_folder, "{name}: the layout of transformers 5 says the same");
}

#[test]
fn llama() {
    equals_transformers("llama");
}

#[test]
fn llama_with_tied_embeddings_and_llama3_rope() {
    equals_transformers("llama-tied-rope3");
}

#[test]
fn mistral_with_wide_heads() {
    equals_transformers("mistral");
}

#[test]
fn gpt2() {
    equals_transformers("gpt2");
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
    for name in ["llama", "gpt2"] {
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
fn token_by_token_is_the_same_text() {
    for name in ["llama", "llama-tied-rope3", "mistral", "gpt2"] {
        let folder = data("archs").join(name);
        let (tokens, _) = expected(&folder);
        let model = Model::open(&folder, None).unwrap();
        let whole = logits(&model, &tokens, tokens.len(), u64::MAX);
        for memory in [0, u64::MAX] {
            let mut session = model.session(memory).unwrap();
            let mut ours = session.feed(&tokens[..7]).unwrap();
            for token in &tokens[7..] {
                ours.extend(session.feed(&[*token]).unwrap());
            }
            assert_close(name, &ours, &whole[6 * model.vocab_size()..]);
        }
    }
}
