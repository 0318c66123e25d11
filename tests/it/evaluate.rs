//! Two made-up models, evaluated here and by llama.cpp's own code (scripts/refresh_evaluate.py).
use std::fs;

use crate::support::Scratch;
use kquant::evaluate::{
    Divergence, Normalizer, Perplexity, Report, compare_log_probs, compare_rows, score_row,
};
use kquant::text::Chunks;
use kquant_formats::logits::{LogitsFile, LogitsWriter, encode_row};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// The text and the logits of both models, `[scored tokens][vocabulary]`.
struct MadeUp {
    expected: Json,
    chunks: Chunks,
    vocabulary: usize,
    base: Vec<f32>,
    model: Vec<f32>,
}

/// The generator of the script: every number is exact in f32.
fn made_up() -> MadeUp {
    let expected: Json =
        serde_json::from_slice(&fs::read(crate::support::data("evaluate/statistics.json")).unwrap()).unwrap();
    let number = |key: &str| expected[key].as_u64().unwrap() as usize;
    let (context, vocabulary) = (number("context"), number("vocabulary"));
    let mut state = 2026u64;
    let mut bits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 48) as i32 - 32768
    };
    let text = (0..context * number("chunks")).map(|_| (bits() + 32768) as u32 % vocabulary as u32).collect();
    let chunks = Chunks::new(text, context, None, Some(number("bos") as u32)).unwrap();
    let (mut base, mut model) = (Vec::new(), Vec::new());
    for target in (0..chunks.len()).flat_map(|i| chunks.targets(i)) {
        for token in 0..vocabulary as u32 {
            let raised = if token == *target { 8.0 } else { 0.0 };
            let logit = bits() as f32 * 3.0 / 8192.0 + raised;
            base.push(logit);
            model.push(logit + bits() as f32 / 32768.0);
        }
    }
    MadeUp { expected, chunks, vocabulary, base, model }
}

impl MadeUp {
    /// Rows of the base and the model with the token that follows.
    fn rows(&self) -> impl Iterator<Item = (&[f32], &[f32], u32)> {
        let targets = (0..self.chunks.len()).flat_map(|i| self.chunks.targets(i)).copied();
        let rows = self.base.chunks_exact(self.vocabulary).zip(self.model.chunks_exact(self.vocabulary));
        rows.zip(targets).map(|((base, model), target)| (base, model, target))
    }

    fn write_base(&self, scratch: &Scratch) -> std::path::PathBuf {
        let path = scratch.path("base.logits");
        let mut writer =
            LogitsWriter::create(&path, self.chunks.context(), self.vocabulary, self.chunks.text(), false)
                .unwrap();
        for (base, ..) in self.rows() {
            let mut row = Vec::new();
            encode_row(base, Normalizer::of(base).unwrap().log_sum_exp as f32, &mut row).unwrap();
            writer.append(&row).unwrap();
        }
        writer.finish().unwrap();
        path
    }
}

/// Every number of `expected` is in `actual`, as far off as `tolerance` allows for its value.
fn assert_near(actual: &Json, expected: &Json, path: &str, tolerance: fn(f64) -> f64) {
    if let Json::Object(keys) = expected {
        keys.iter()
            .for_each(|(key, value)| assert_near(&actual[key], value, &format!("{path}/{key}"), tolerance));
    } else {
        let (actual, expected) = (actual.as_f64().unwrap_or(f64::NAN), expected.as_f64().unwrap());
        assert!((actual - expected).abs() <= tolerance(expected), "{path}: {actual} instead of {expected}");
    }
}

#[test]
fn two_models_in_full_precision() {
    let made_up = made_up();
    let mut divergence = Divergence::default();
    divergence.extend(made_up.rows().map(|(base, model, target)| compare_rows(base, model, target).unwrap()));
    let report = serde_json::to_value(Report::compared(&made_up.chunks, &divergence)).unwrap();
    assert_near(&report, &made_up.expected["exact"], "", |v| 1e-7 + 1e-6 * v.abs());
    assert_eq!(report["tokens_scored"], 300);
}

#[test]
fn a_logits_file_is_llama_perplexitys_and_gives_its_statistics() {
    let made_up = made_up();
    let scratch = Scratch::new("evaluate-logits");
    let path = made_up.write_base(&scratch);
    let mut peer = made_up.expected["llama_perplexity"].clone();
    let hash: String = Sha256::digest(fs::read(&path).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(peer["logits_sha256"], hash);

    let file = LogitsFile::open(&path).unwrap();
    assert_eq!((file.context(), file.vocabulary(), file.chunks()), (32, 51, 20));
    let chunks = Chunks::recorded(file.tokens().to_vec(), file.context(), None, Some(1)).unwrap();
    assert_eq!(chunks, made_up.chunks);
    let mut divergence = Divergence::default();
    let (mut base, mut bytes) = (Vec::new(), Vec::new());
    for (i, (_, model, target)) in made_up.rows().enumerate() {
        file.row(i / file.rows_per_chunk(), i % file.rows_per_chunk(), &mut bytes)
            .unwrap()
            .decode_into(&mut base);
        divergence.push(&compare_log_probs(&base, model, target).unwrap());
    }
    let report = serde_json::to_value(Report::compared(&chunks, &divergence)).unwrap();
    // Percentages are printed with three digits, all else with six (the correlation with two of its percentage); and where
    // llama-perplexity computes with f32, it does not keep more than seven.
    let keys = peer.as_object_mut().unwrap();
    for other in ["logits_sha256", "base_running", "base_final"] {
        keys.remove(other).unwrap();
    }
    for (key, tolerance) in [("same_top", 5.1e-4), ("same_top_stderr", 5.1e-4), ("correlation", 5.1e-5)] {
        let expected = keys.remove(key).unwrap().as_f64().unwrap();
        assert!((report[key].as_f64().unwrap() - expected).abs() < tolerance, "{key}: {}", report[key]);
    }
    assert_near(&report["delta_p"], &keys.remove("delta_p").unwrap(), "/delta_p", |_| 5.2e-4);
    assert_near(&report, &peer, "", |v| 1.5e-6 + 5e-7 * v.abs());
}

#[test]
fn running_values_and_the_final_one_are_llama_perplexitys() {
    let made_up = made_up();
    let peer = &made_up.expected["llama_perplexity"];
    let mut perplexity = Perplexity::default();
    let mut running = Vec::new();
    for (i, (base, _, target)) in made_up.rows().enumerate() {
        perplexity.push(score_row(base, target).unwrap());
        if (i + 1) % made_up.chunks.scored().len() == 0 {
            running.push(perplexity.value());
        }
    }
    let printed: Vec<f64> =
        peer["base_running"].as_array().unwrap().iter().filter_map(Json::as_f64).collect();
    assert_eq!(running.len(), printed.len());
    for (running, printed) in running.into_iter().zip(printed) {
        assert!((running - printed).abs() < 5.1e-5 + 2e-7 * printed, "{running} instead of {printed}");
    }
    let report = serde_json::to_value(Report::new(&made_up.chunks, &perplexity)).unwrap();
    assert_near(&report["perplexity"], &peer["base_final"], "", |v| 5.1e-5 + 2e-7 * v);
}
