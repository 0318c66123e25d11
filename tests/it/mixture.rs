//! Mixtures of experts, and latent attention with its matrix per head, through the whole program: what is collected of each
//! matrix, how each is rounded, and experts that are in MXFP4 already.
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Scratch, Tensor, data, kquant, noise, ok, quantize, write_safetensors};
use half::bf16;
use kquant::checkpoint::type_layout;
use kquant::encode::feedback::Hessian;
use kquant::statistics::{Half, HessianFile};
use kquant_formats::gguf::Gguf;
use kquant_formats::imatrix::{Entry, Imatrix};
use kquant_kernels::block;
use safetensors::SafeTensors;
use serde_json::Value as Json;

const CHUNKS: usize = 12;
const CONTEXT: usize = 64;
const TEXT: [&str; 4] = ["--context", "64", "--chunks", "12"];

fn importance(model: &str, out: &Path, more: &[&str]) -> Imatrix {
    let (folder, text) = (data("archs").join(model), data("corpora/calibration-small.txt"));
    let args = ["calibrate", folder.to_str().unwrap(), "--text", text.to_str().unwrap(), "-o"];
    ok(kquant(args.iter().chain(&[out.to_str().unwrap(), "--force"]).chain(&TEXT).chain(more)));
    Imatrix::open(out).unwrap()
}

#[test]
fn each_expert_has_its_own_statistics() {
    let scratch = Scratch::new("mixture-importance");
    let out = scratch.path("importance.gguf");
    for (model, layer, used) in [("mixtral", 0, 2), ("gpt_oss", 0, 2), ("deepseek_v3", 1, 2)] {
        let matrix = importance(model, &out, &[]);
        let entry = |name: &str| matrix.entries[&format!("blk.{layer}.{name}.weight")].clone();
        let [gate, up, down] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"].map(entry);
        assert_eq!(gate, up, "{model}: they read the same");
        assert_eq!((gate.matrices, gate.counts.len()), (4, 4), "{model}");
        assert_eq!(gate.counts, down.counts, "{model}: what an expert reads it also says");
        let total: f32 = gate.counts.iter().sum();
        assert_eq!(total as usize, CHUNKS * CONTEXT * used, "{model}: every token meets {used}");
        // All experts together see what the router sees, as often as tokens are routed.
        let router = entry("ffn_gate_inp");
        assert_eq!((router.matrices, router.counts[0] as usize), (1, CHUNKS * CONTEXT));
        for column in 0..gate.columns {
            let sum: f32 = gate.sums.iter().skip(column).step_by(gate.columns).sum();
            let expected = used as f32 * router.sums[column];
            assert!((sum - expected).abs() <= 1e-5 * expected, "{model}, column {column}: {sum} {expected}");
        }
        for means in [&["--threads", "1"][..], &["--threads", "3", "--memory", "8M"]] {
            assert!(importance(model, &out, means) == matrix, "{model} with {means:?}");
        }
    }
}

#[test]
fn each_head_of_latent_attention_has_its_own_statistics() {
    let scratch = Scratch::new("mixture-latent");
    let matrix = importance("deepseek_v3", &scratch.path("importance.gguf"), &[]);
    for name in ["attn_k_b", "attn_v_b"] {
        let Entry { columns, matrices, counts, .. } = &matrix.entries[&format!("blk.2.{name}.weight")];
        assert_eq!((*columns, *matrices), (32, 4), "{name}");
        assert!(
            counts.iter().all(|&n| n as usize == CHUNKS * CONTEXT),
            "{name}: every head sees every token"
        );
    }
}

/// KL divergence of `model` in Q4_0 with one encoder, and the file.
fn divergence(model: &str, out: &Path, more: &[&str]) -> (f64, Vec<u8>) {
    let (text, eval) = (data("corpora/calibration-small.txt"), data("corpora/eval-small.txt"));
    let args = [
        "--calibrate",
        text.to_str().unwrap(),
        "--verify",
        eval.to_str().unwrap(),
        "--json",
        "--quiet",
        "--force",
    ];
    let printed = ok(quantize(&data("archs").join(model), out, "Q4_0", &[&args, &TEXT[..], more].concat()));
    let printed: Json = serde_json::from_str(&printed).unwrap();
    (printed["proof"]["kl"]["mean"].as_f64().unwrap(), fs::read(out).unwrap())
}

#[test]
fn experts_are_rounded_with_feedback_and_bytes_depend_on_neither_threads_nor_memory() {
    let scratch = Scratch::new("mixture-calibrated");
    let out = scratch.path("out.gguf");
    for model in ["mixtral", "gpt_oss", "deepseek_v3"] {
        let (ggml, _) = divergence(model, &out, &["--encoder", "ggml"]);
        let (gptq, bytes) = divergence(model, &out, &["--encoder", "gptq", "--threads", "2"]);
        assert!(gptq < 0.9 * ggml, "{model}: {gptq} with feedback, {ggml} without");
        let (_, again) = divergence(model, &out, &["--encoder", "gptq", "--threads", "1", "--memory", "16M"]);
        assert!(again == bytes, "{model}");
    }
}

#[test]
fn hessians_of_experts_are_collected_added_up_and_used() {
    let scratch = Scratch::new("mixture-hessians");
    let text = data("corpora/calibration-small.txt");
    for model in ["mixtral", "deepseek_v3"] {
        let folder = data("archs").join(model);
        let made = |name: &str, more: &[&str]| {
            let out = scratch.path(name);
            let args = [
                "calibrate",
                folder.to_str().unwrap(),
                "--text",
                text.to_str().unwrap(),
                "--hessian",
                "--force",
                "-o",
            ];
            let context = ["--context", "64", "--chunks", "64"];
            ok(kquant(args.iter().chain(&[out.to_str().unwrap()]).chain(&context).chain(more)));
            out
        };
        let whole = made("whole.gguf", &["--threads", "2"]);
        let file = HessianFile::open(&whole).unwrap();
        for group in file.groups() {
            let importance = &file.importance().entries[&group.tensors()[0]];
            assert_eq!(importance.matrices, group.matrices());
            for matrix in 0..group.matrices() {
                let hessians = Half::ALL.map(|half| group.read(matrix, half).unwrap());
                for column in 0..group.columns() {
                    let square = |h: &Hessian| h.mean[column * (h.columns + 1)] * h.tokens as f32;
                    let sum: f32 = hessians.iter().flatten().map(square).sum();
                    let expected = importance.sums[matrix * group.columns() + column];
                    assert!(
                        (sum - expected).abs() <= 1e-4 * expected,
                        "{:?}: {sum} {expected}",
                        group.tensors()
                    );
                }
            }
        }
        let parts = ["1/2", "2/2"].map(|part| made(&format!("part-{}.gguf", &part[..1]), &["--part", part]));
        let merged = scratch.path("merged.gguf");
        let args = ["imatrix", "merge", "--force", "-o", merged.to_str().unwrap()];
        ok(kquant(args.iter().copied().chain(parts.iter().map(|p| p.to_str().unwrap()))));
        assert_eq!(Imatrix::open(&merged).unwrap(), Imatrix::open(&whole).unwrap(), "{model}");

        let eval = data("corpora/eval-small.txt");
        let divergence = |name: &str, more: &[&str]| {
            let out = scratch.path(name);
            let args = [
                "--imatrix",
                whole.to_str().unwrap(),
                "--verify",
                eval.to_str().unwrap(),
                "--json",
                "--quiet",
                "--force",
            ];
            let printed = ok(quantize(&folder, &out, "Q4_0", &[&args, &TEXT[..], more].concat()));
            let printed: Json = serde_json::from_str(&printed).unwrap();
            (printed["proof"]["kl"]["mean"].as_f64().unwrap(), fs::read(out).unwrap())
        };
        let (ggml, _) = divergence("ggml.gguf", &["--encoder", "ggml"]);
        let (gptq, bytes) = divergence("gptq.gguf", &["--encoder", "gptq"]);
        assert!(gptq < 0.95 * ggml, "{model}: {gptq} with Hessians, {ggml} without");
        assert!(
            divergence("again.gguf", &["--encoder", "gptq", "--threads", "1", "--memory", "16M"]).1 == bytes
        );
    }
}

/// The weights of tensor `name` of a GGUF.
fn decoded(path: &Path, name: &str) -> Vec<f32> {
    let file = Gguf::open(path, type_layout).unwrap();
    let tensor = file.tensors().iter().find(|t| t.name == name).unwrap();
    let mut weights = vec![0.0; tensor.shape.iter().product::<u64>() as usize];
    (block::by_id(tensor.type_id).unwrap().decode)(&file.data(tensor).unwrap(), &mut weights);
    weights
}

/// `Σ e H e'` over the rows of expert `expert` of `name`, e the difference of two files and H of what its layer's router reads.
fn loss(files: [&Path; 2], statistics: &HessianFile, name: &str, expert: usize) -> f64 {
    let (layer, _) = name.split_once(".ffn_").unwrap();
    let hessian = statistics.group_of(&format!("{layer}.ffn_gate_inp.weight")).unwrap();
    let hessian = hessian.read(0, Half::Train).unwrap().unwrap();
    let n = hessian.columns;
    let size = decoded(files[0], name).len() / statistics.group_of(name).unwrap().matrices();
    let [a, b] = files.map(|path| decoded(path, name)[expert * size..][..size].to_vec());
    let errors: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from(a - b)).collect();
    let product = |h: &[f32], e: &[f64]| -> f64 { h.iter().zip(e).map(|(&h, e)| f64::from(h) * e).sum() };
    let row = |e: &[f64]| hessian.mean.chunks_exact(n).zip(e).map(|(h, x)| x * product(h, e)).sum::<f64>();
    errors.chunks_exact(n).map(row).sum()
}

/// A folder like tests/data/archs/mixtral with 16 experts instead of 4, made of rows of these and of noise.
fn many_experts(folder: &Path) {
    const EXPERTS: usize = 16;
    fs::create_dir_all(folder).unwrap();
    let original = data("archs/mixtral");
    for file in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(original.join(file), folder.join(file)).unwrap();
    }
    let mut config: Json = serde_json::from_slice(&fs::read(original.join("config.json")).unwrap()).unwrap();
    config["num_local_experts"] = EXPERTS.into();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bytes = fs::read(original.join("model.safetensors")).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let shape: Vec<u64> = view.shape().iter().map(|&n| n as u64).collect();
        let tensor =
            |name: String, shape: Vec<u64>, data: Vec<u8>| Tensor { name, dtype: "BF16", shape, data };
        if name.ends_with("block_sparse_moe.gate.weight") {
            let mut values = noise(shape[1], EXPERTS * shape[1] as usize);
            // Three without a say: hardly a token is routed there.
            values[(EXPERTS - 3) * shape[1] as usize..].fill(0.0);
            let data = values.iter().flat_map(|&x| bf16::from_f32(20.0 * x).to_le_bytes()).collect();
            tensors.push(tensor(name, vec![EXPERTS as u64, shape[1]], data));
        } else if let Some((before, after)) = name.split_once(".experts.") {
            let (number, after) = after.split_once('.').unwrap();
            for turn in 0..EXPERTS / 4 {
                let mut data = view.data().to_vec();
                data.rotate_left(turn * 10 * 2 * shape[1] as usize);
                let number = number.parse::<usize>().unwrap() + 4 * turn;
                tensors.push(tensor(format!("{before}.experts.{number}.{after}"), shape.clone(), data));
            }
        } else {
            tensors.push(tensor(name, shape, view.data().to_vec()));
        }
    }
    write_safetensors(&folder.join("model.safetensors"), &tensors);
}

#[test]
fn experts_that_few_tokens_reach_are_rounded_as_their_layer_tells() {
    let scratch = Scratch::new("mixture-pooled");
    let (folder, text) = (scratch.path("model"), data("corpora/calibration-small.txt"));
    many_experts(&folder);
    let [folder, text] = [&folder, &text].map(|path| path.to_str().unwrap());
    let statistics = |name: &str, chunks: &str| {
        let out = scratch.path(name);
        let args = ["calibrate", folder, "--text", text, "--hessian", "--context", "64", "--chunks", chunks];
        ok(kquant(args.iter().chain(&["-o", out.to_str().unwrap()])));
        out
    };
    let (many, few) = (statistics("many.gguf", "128"), statistics("few.gguf", "6"));
    let made = |name: &str, kind: &str, more: &[&str]| {
        let out = scratch.path(name);
        let printed = ok(quantize(Path::new(folder), &out, kind, &[&["--force", "--pure"], more].concat()));
        (out, printed)
    };
    let statistics = few.to_str().unwrap();
    let (exact, _) = made("f32.gguf", "F32", &[]);
    let (plain, _) = made("plain.gguf", "Q4_0", &["--encoder", "search"]);
    let (weighted, _) = made("weighted.gguf", "Q4_0", &["--encoder", "search", "--imatrix", statistics]);
    let (pooled, printed) = made("pooled.gguf", "Q4_0", &["--encoder", "gptq", "--imatrix", statistics]);
    assert!(printed.contains("matrices met few tokens"), "{printed}");

    let (many, few) = (HessianFile::open(&many).unwrap(), HessianFile::open(&few).unwrap());
    let (mut unmet, mut ratios) = (0, [0.0; 2]);
    for group in few.groups().filter(|g| g.tensors()[0].contains("ffn_gate_exps")) {
        for expert in (0..group.matrices()).filter(|&expert| group.tokens(expert, Half::Train) == 0) {
            for name in group.tensors() {
                let of = |path: &Path| loss([&exact, path], &many, name, expert);
                unmet += 1;
                ratios[0] += of(&weighted) / of(&plain);
                ratios[1] += of(&pooled) / of(&plain);
            }
        }
    }
    let [weighted, pooled] = ratios.map(|sum| sum / f64::from(unmet));
    assert!(unmet >= 4, "{unmet}");
    assert!(weighted < 1.0, "{weighted} with the layer's importance instead of none");
    assert!(pooled < 0.9, "{pooled} with the layer's Hessian instead of nothing");

    for source in [&["--calibrate", text, "--context", "64", "--chunks", "6"][..], &["--imatrix", statistics]]
    {
        let bytes = |name: &str, more: &[&str]| {
            fs::read(made(name, "Q4_0", &[&["--encoder", "gptq"], source, more].concat()).0).unwrap()
        };
        let one = bytes("one.gguf", &["--threads", "1", "--memory", "16M"]);
        assert!(one == bytes("two.gguf", &["--threads", "2"]), "{source:?}");
    }
}

/// The values of FP4 codes.
const FP4: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// A folder like tests/data/archs/gpt_oss with other experts: of codes and scales as published if `published`, or of the same
/// weights in bf16.
fn gpt_oss(folder: &Path, published: bool) {
    fs::create_dir_all(folder).unwrap();
    let original = data("archs/gpt_oss");
    for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(original.join(file), folder.join(file)).unwrap();
    }
    let bytes = fs::read(original.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let shape: Vec<u64> = view.shape().iter().map(|&n| n as u64).collect();
        if !name.ends_with("gate_up_proj") && !name.ends_with("down_proj") {
            tensors.push(Tensor { name, dtype: "BF16", shape, data: view.data().to_vec() });
            continue;
        }
        let [experts, inputs, outputs] = [shape[0], shape[1], shape[2]];
        // Any codes, and scales near 2^-7.
        let count = (experts * inputs * outputs) as usize;
        let mut state = name.len() as u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u8
        };
        let codes: Vec<u8> = (0..count / 2).map(|_| next()).collect();
        let scales: Vec<u8> = (0..count / 32).map(|_| 118 + next() % 4).collect();
        if published {
            let groups = inputs / 32;
            let blocks = Tensor {
                name: format!("{name}_blocks"),
                dtype: "U8",
                shape: vec![experts, outputs, groups, 16],
                data: codes,
            };
            let scales = Tensor {
                name: format!("{name}_scales"),
                dtype: "U8",
                shape: vec![experts, outputs, groups],
                data: scales,
            };
            tensors.extend([blocks, scales]);
            continue;
        }
        let value = |i: usize| {
            let code = (codes[i / 2] >> (4 * (i % 2))) & 15;
            // ggml has no negative zero.
            let sign = if code <= 8 { 1.0 } else { -1.0 };
            sign * FP4[usize::from(code & 7)] * 2f32.powi(i32::from(scales[i / 32]) - 127)
        };
        let [inputs, outputs] = [inputs as usize, outputs as usize];
        let stored = |i: usize| {
            let (expert, input, output) = (i / (inputs * outputs), i / outputs % inputs, i % outputs);
            bf16::from_f32(value((expert * outputs + output) * inputs + input)).to_le_bytes()
        };
        tensors.push(Tensor { name, dtype: "BF16", shape, data: (0..count).flat_map(stored).collect() });
    }
    write_safetensors(&folder.join("model.safetensors"), &tensors);
}

/// Name -> type and hash of the tensors of a GGUF.
fn tensors(path: &Path) -> Vec<(String, String, String)> {
    let files: Json = serde_json::from_str(&ok(kquant(["hash", "--json", path.to_str().unwrap()]))).unwrap();
    let text = |t: &Json, key: &str| t[key].as_str().unwrap().to_owned();
    let all = files[0]["tensors"].as_array().unwrap().iter();
    all.map(|t| (text(t, "name"), text(t, "type"), text(t, "sha256"))).collect()
}

#[test]
fn published_mxfp4_is_taken_over_losslessly() {
    let scratch = Scratch::new("mixture-mxfp4");
    let made = |published: bool, kind: &str| -> PathBuf {
        let folder = scratch.path(if published { "published" } else { "plain" });
        if !folder.exists() {
            gpt_oss(&folder, published);
        }
        let out = scratch.path(&format!("{published}-{kind}.gguf"));
        ok(quantize(&folder, &out, kind, &["--allow-requantize", "--force"]));
        out
    };
    assert_eq!(tensors(&made(true, "F32")), tensors(&made(false, "F32")), "the weights");
    let kept = made(true, "MXFP4_MOE");
    let experts = |all: Vec<(String, String, String)>| -> Vec<_> {
        all.into_iter().filter(|t| t.0.ends_with("_exps.weight")).collect()
    };
    let kept_experts = experts(tensors(&kept));
    assert!(kept_experts.len() == 9 && kept_experts.iter().all(|t| t.1 == "MXFP4"), "{kept_experts:?}");
    let copied = made(true, "COPY");
    assert_eq!(experts(tensors(&copied)), kept_experts);
    let shown: Json =
        serde_json::from_str(&ok(kquant(["inspect", "--json", copied.to_str().unwrap()]))).unwrap();
    assert_eq!(shown["metadata"]["general.file_type"]["value"], 38, "mostly MXFP4");
    let decoded = scratch.path("decoded.gguf");
    ok(quantize(&kept, &decoded, "F32", &["--allow-requantize"]));
    assert_eq!(experts(tensors(&decoded)), experts(tensors(&made(false, "F32"))), "and back");
}
