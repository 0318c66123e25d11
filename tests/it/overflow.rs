//! Weights that a type cannot hold are refused by name, whatever the type, the encoder and the way in; what only vanishes is told.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{
    HIDDEN, Scratch, Tensor, copy_changed, data, kquant, micro_llama, noise, ok, quantize, refused, stderr,
    write_folder,
};
use kquant_formats::imatrix::{Entry, Imatrix};
use kquant_kernels::block::{Importance, TYPES};

/// Row and column of the odd weight.
const AT: (u64, u64) = (70, 133);
const UP: &str = "model.layers.0.mlp.up_proj.weight";

/// The micro model with one weight of a matrix of `HIDDEN` columns.
fn micro_with(name: &str, value: f32) -> Vec<Tensor> {
    let mut tensors = micro_llama();
    let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
    let mut weights = noise(99, tensor.shape.iter().product::<u64>() as usize);
    weights[(AT.0 * HIDDEN + AT.1) as usize] = value;
    *tensor = Tensor::f32(name, &tensor.shape, &weights);
    tensors
}

/// An importance matrix for `ffn_up` of the micro model.
fn importance(path: &Path) {
    let columns = HIDDEN as usize;
    let entry = Entry { columns, matrices: 1, sums: vec![1.0; columns], counts: vec![1.0] };
    let entries = [("blk.0.ffn_up.weight".to_owned(), entry)].into();
    let matrix =
        Imatrix { entries, datasets: vec!["text".into()], chunk_count: Some(1), chunk_size: Some(64) };
    matrix.write_gguf(path, false).unwrap();
}

fn place() -> String {
    format!("tensor `blk.0.ffn_up.weight`: weight at row {}, column {} is ", AT.0, AT.1)
}

#[test]
fn no_type_takes_a_weight_past_its_range() {
    let scratch = Scratch::new("overflow-types");
    let (model, out, matrix) = (scratch.path("model"), scratch.path("out.gguf"), scratch.path("i.gguf"));
    importance(&matrix);
    let limited = TYPES.iter().filter(|t| t.encode.is_some() && t.limits.high < f32::INFINITY);
    for block in limited {
        let past = [block.limits.high, block.limits.low].map(|v| (v * 1.25).clamp(f32::MIN, f32::MAX));
        for (value, encoder) in past.into_iter().zip(["guarded", "search"]) {
            write_folder(&model, &micro_with(UP, value));
            let chosen = format!("ffn_up={}", block.name);
            let mut more = vec!["--tensor-type", &chosen, "--encoder", encoder];
            if block.importance != Importance::Ignored {
                more.extend(["--imatrix", matrix.to_str().unwrap()]);
            }
            let run = quantize(&model, &out, "F32", &more);
            refused(
                block.name,
                &run,
                &format!("{}{value}, which is past what {} can", place(), block.name),
                &out,
            );
            let instead = if block.name == "BF16" { "F32" } else { "BF16" };
            let advice = format!("--tensor-type 'blk.0.ffn_up.weight={instead}'");
            refused(block.name, &run, &advice, &out);
        }
    }
}

/// The three tensors whose types have options of their own, and that the advice works.
#[test]
fn the_advice_is_of_use() {
    let scratch = Scratch::new("overflow-advice");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    for name in [UP, "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight"]
    {
        write_folder(&model, &micro_with(name, -1e5));
        let run = quantize(&model, &out, "F16", &[]);
        refused(name, &run, "is -100000, which is past what F16 can hold", &out);
        let message = stderr(&run);
        let advice = message.split("for that tensor with ").nth(1).unwrap();
        let (option, value) = advice.split(", or for all").next().unwrap().split_once(' ').unwrap();
        ok(quantize(&model, &out, "F16", &[option, value.trim_matches('\'')]));
        fs::remove_file(&out).unwrap();
        ok(quantize(&model, &out, "BF16", &[]));
        fs::remove_file(&out).unwrap();
    }
}

#[test]
fn every_encoder_and_every_way_in_refuses() {
    let scratch = Scratch::new("overflow-ways");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    write_folder(&model, &micro_with(UP, 9e5));
    let expected = format!("{}900000, which is past what Q4_0 can hold", place());
    for encoder in ["guarded", "auto", "search", "ggml"] {
        let run = quantize(&model, &out, "Q4_0", &["--pure", "--encoder", encoder]);
        refused(encoder, &run, &expected, &out);
        let more = ["--pure", "--threads", "1", "--memory", "1M"];
        refused(encoder, &quantize(&model, &out, "Q4_0", &more), &expected, &out);
    }
    // Quantized inputs: Q8_0 holds what Q4_0 cannot, and its neighbours become zeros.
    let (f32, q8) = (scratch.path("f32.gguf"), scratch.path("q8.gguf"));
    ok(quantize(&model, &f32, "F32", &[]));
    ok(quantize(&f32, &q8, "Q8_0", &["--pure"]));
    for source in [&f32, &q8] {
        for (kind, past) in [("Q4_0", "Q4_0"), ("F16", "F16"), ("Q4_1", "")] {
            let run = quantize(source, &out, kind, &["--pure", "--allow-requantize"]);
            match past {
                // 15 times f16's range.
                "" => drop((ok(run), fs::remove_file(&out).unwrap())),
                past => refused(kind, &run, &format!("which is past what {past} can hold"), &out),
            }
        }
    }
    // A copy changes nothing, so that there is nothing to refuse.
    ok(quantize(&q8, &out, "COPY", &[]));
}

#[test]
fn infinite_and_missing_numbers_are_damage_as_before() {
    let scratch = Scratch::new("overflow-damage");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        write_folder(&model, &micro_with(UP, value));
        for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_K"] {
            let run = quantize(&model, &out, "F32", &["--tensor-type", &format!("ffn_up={kind}")]);
            refused(kind, &run, "The checkpoint is damaged", &out);
        }
    }
}

/// tests/data/tiny-llama with one weight of the tensor `odd`.
fn tiny_with(folder: &Path, odd: &str, value: f32) -> PathBuf {
    copy_changed("tiny-llama", folder, odd, |shape, data| {
        let at = (AT.0 * shape[1] + AT.1) as usize;
        data[2 * at..2 * at + 2].copy_from_slice(&half::bf16::from_f32(value).to_le_bytes());
    })
}

fn calibrated(model: &Path, out: &Path, kind: &str, more: &[&str]) -> Output {
    let text = data("corpora/calibration-small.txt");
    let args = ["--calibrate", text.to_str().unwrap(), "--context", "64", "--chunks", "8", "--quiet"];
    quantize(model, out, kind, &[&args, more].concat())
}

#[test]
fn calibrated_encoding_refuses() {
    let scratch = Scratch::new("overflow-calibrated");
    let (model, out, statistics) = (scratch.path("model"), scratch.path("out.gguf"), scratch.path("s.gguf"));
    // 2^23, which is a bf16 as it is.
    let model = tiny_with(&model, "model.layers.1.mlp.up_proj.weight", 8_388_608.0);
    let expected = format!(
        "tensor `blk.1.ffn_up.weight`: weight at row {}, column {} is 8388608, which is past what ",
        AT.0, AT.1
    );
    for more in [&["--quality", "good"][..], &["--feedback", "both"], &["--encoder", "search"]] {
        refused("text", &calibrated(&model, &out, "Q4_0", &[&["--pure"], more].concat()), &expected, &out);
    }
    // Plain numbers, which feedback leaves to the pipeline, and codes of several weights.
    for kind in ["F16", "IQ3_XXS"] {
        let chosen = format!("ffn_up={kind}");
        let run = calibrated(&model, &out, "Q8_0", &["--encoder", "gptq", "--tensor-type", &chosen]);
        match kind {
            "F16" => refused(kind, &run, &expected, &out),
            _ => drop((ok(run), fs::remove_file(&out).unwrap())),
        }
    }
    let text = data("corpora/calibration-small.txt");
    let args = ["calibrate", model.to_str().unwrap(), "--text", text.to_str().unwrap(), "--fisher", "-o"];
    let part = ["--context", "64", "--chunks", "8", "--quiet"];
    ok(kquant(args.iter().chain(&[statistics.to_str().unwrap()]).chain(&part)));
    for more in [&["--feedback", "columns"][..], &["--feedback", "both"], &["--encoder", "auto"]] {
        let args = [&["--pure", "--quiet", "--imatrix", statistics.to_str().unwrap()], more].concat();
        refused("statistics", &quantize(&model, &out, "Q4_0", &args), &expected, &out);
    }
}

/// Found before the layers are encoded, one side or both.
#[test]
fn calibrated_encoding_refuses_embeddings_at_once() {
    let scratch = Scratch::new("overflow-embedding");
    let out = scratch.path("out.gguf");
    let model = tiny_with(&scratch.path("model"), "model.embed_tokens.weight", 8_388_608.0);
    let expected =
        format!("tensor `token_embd.weight`: weight at row {}, column {} is 8388608, ", AT.0, AT.1);
    for kind in ["Q4_0", "F16"] {
        let run = calibrated(&model, &out, "Q4_0", &["--token-embedding-type", kind]);
        refused(kind, &run, &format!("{expected}which is past what {kind} can hold"), &out);
        refused(kind, &run, "--token-embedding-type BF16", &out);
    }
}

#[test]
fn a_tensor_that_vanishes_is_told_of() {
    let scratch = Scratch::new("overflow-vanished");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    let tiny = |tensors: &mut Vec<Tensor>, by: f32| {
        let tensor = tensors.iter_mut().find(|t| t.name == UP).unwrap();
        let weights: Vec<f32> = noise(99, (HIDDEN * HIDDEN) as usize).iter().map(|w| w * by).collect();
        *tensor = Tensor::f32(UP, &tensor.shape, &weights);
    };
    let told = "tensor `blk.0.ffn_up.weight`: all of its weights, of magnitudes up to ";
    for (kind, encoder) in
        [("F16", "guarded"), ("Q8_0", "guarded"), ("Q4_0", "search"), ("Q4_K", "ggml"), ("Q6_K", "auto")]
    {
        for (by, vanishes) in [(1e-12, true), (1.0, false), (0.0, false)] {
            let mut tensors = micro_llama();
            tiny(&mut tensors, by);
            write_folder(&model, &tensors);
            let chosen = format!("ffn_up={kind}");
            let run =
                quantize(&model, &out, "F32", &["--tensor-type", &chosen, "--encoder", encoder, "--force"]);
            let message = stderr(&run);
            assert_eq!(message.contains(told), vanishes, "{kind} {by}: {message}");
            assert_eq!(message.contains("=BF16'"), vanishes, "{kind} {by}: {message}");
            ok(run);
        }
    }
    let printed = ok(quantize(&model, &out, "F16", &["--json", "--quiet", "--force"]));
    assert!(printed.contains("\"warnings\": []"), "{printed}");
    // What feedback encoded is looked at as well.
    let mut tensors = micro_llama();
    tiny(&mut tensors, 1e-12);
    write_folder(&model, &tensors);
    let text = data("corpora/calibration-small.txt");
    let args =
        ["--calibrate", text.to_str().unwrap(), "--context", "64", "--chunks", "8", "--force", "--pure"];
    let run = quantize(&model, &out, "Q4_0", &args);
    assert!(stderr(&run).contains(told), "{}", stderr(&run));
    ok(run);
}
