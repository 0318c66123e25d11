//! Which files of a folder are the model: one file or shards, with or without an index, and what is none.
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;
use serde_json::json;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
const NORM: &str = "model.norm.weight";

/// Tensors of the same names and shapes as the micro model's, of other values.
fn others() -> Vec<Tensor> {
    let mut tensors = micro_llama();
    for (seed, t) in tensors.iter_mut().enumerate() {
        *t = Tensor::bf16(&t.name, &t.shape, 100 + seed as u64);
    }
    tensors
}

/// The bytes of the GGUF that `model` gives, and what is said on the way.
fn converted(scratch: &Scratch, model: &Path) -> (Vec<u8>, String) {
    let out = scratch.path("converted.gguf");
    let run = quantize(model, &out, "Q8_0", &["--force"]);
    let said = stderr(&run);
    ok(run);
    (fs::read(out).unwrap(), said)
}

/// A folder called `model`, so that names in the metadata are the same, in a folder of its own.
fn folder(scratch: &Scratch, name: &str) -> PathBuf {
    scratch.path(name).join("model")
}

/// The bytes that `tensors` alone give.
fn expected(scratch: &Scratch, tensors: &[Tensor]) -> Vec<u8> {
    let alone = folder(scratch, "alone");
    write_folder(&alone, tensors);
    let (bytes, said) = converted(scratch, &alone);
    assert_eq!(said, "", "nothing to be said");
    bytes
}

fn perplexity(model: &Path) -> std::process::Output {
    let text = data("corpora/eval-small.txt");
    let args = ["perplexity", model.to_str().unwrap(), "--text", text.to_str().unwrap()];
    kquant(args.into_iter().chain(["--context", "32", "--chunks", "2", "--quiet", "--json", "-"]))
}

#[test]
fn a_single_file_is_taken_before_shards_of_the_same_names() {
    let scratch = Scratch::new("weights-both");
    let model = folder(&scratch, "both");
    write_sharded(&model, &others(), 2);
    write_safetensors(&model.join(SINGLE), &micro_llama());
    let single = expected(&scratch, &micro_llama());
    let (bytes, said) = converted(&scratch, &model);
    assert!(bytes == single, "the single file's weights");
    assert!(said.starts_with("note: ") && said.contains(SINGLE) && said.contains(INDEX), "{said}");
    // Either can be had by its name.
    let (bytes, said) = converted(&scratch, &model.join(SINGLE));
    assert!(bytes == single && said.is_empty(), "{said}");
    let shards = expected(&scratch, &others());
    let (bytes, said) = converted(&scratch, &model.join(INDEX));
    assert!(bytes == shards && said.is_empty(), "{said}");
    // Every command that opens a model says which one it took.
    let alone = perplexity(&folder(&scratch, "alone"));
    let both = perplexity(&model);
    assert!(stderr(&both).contains(INDEX), "{}", stderr(&both));
    let alone = ok(alone);
    write_safetensors(&folder(&scratch, "alone").join(SINGLE), &micro_llama());
    assert_ne!(ok(both), alone, "others were the last to be alone");
    assert_eq!(ok(perplexity(&model)), ok(perplexity(&folder(&scratch, "alone"))));
    let inspect = kquant(["inspect", model.to_str().unwrap()]);
    assert!(stderr(&inspect).contains(INDEX), "{}", stderr(&inspect));
    let out = scratch.path("imatrix.gguf");
    let text = data("corpora/eval-small.txt");
    let options = ["--context", "32", "--chunks", "1", "-o", out.to_str().unwrap()];
    let args = ["calibrate", model.to_str().unwrap(), "--text", text.to_str().unwrap()];
    let calibrate = kquant(args.iter().chain(&options));
    assert!(stderr(&calibrate).contains(INDEX), "{}", stderr(&calibrate));
    let generate = kquant(["generate", model.to_str().unwrap(), "--prompt", "a", "-n", "1"]);
    assert!(stderr(&generate).contains(INDEX), "{}", stderr(&generate));
}

#[test]
fn what_is_left_of_shards_does_not_stop_a_single_file() {
    let scratch = Scratch::new("weights-left");
    let single = expected(&scratch, &micro_llama());
    type Change = fn(&Path);
    let cases: [(&str, Change); 5] = [
        ("shards gone", |f| (1..=2).for_each(|i| fs::remove_file(f.join(shard(i, 2))).unwrap())),
        ("a shard gone", |f| fs::remove_file(f.join(shard(2, 2))).unwrap()),
        ("index malformed", |f| fs::write(f.join(INDEX), "{").unwrap()),
        ("a shard malformed", |f| fs::write(f.join(shard(1, 2)), "x").unwrap()),
        ("no index", |f| fs::remove_file(f.join(INDEX)).unwrap()),
    ];
    for (case, change) in cases {
        let model = folder(&scratch, case);
        write_sharded(&model, &others(), 2);
        write_safetensors(&model.join(SINGLE), &micro_llama());
        change(&model);
        let (bytes, said) = converted(&scratch, &model);
        assert!(bytes == single, "{case}");
        assert!(said.contains("note: ") && said.contains("are not"), "{case}: {said}");
    }
}

fn shard(number: usize, count: usize) -> String {
    format!("model-{number:05}-of-{count:05}.safetensors")
}

#[test]
fn two_models_in_one_folder_are_refused() {
    let scratch = Scratch::new("weights-two");
    let out = scratch.path("out.gguf");
    type Change = fn(&mut Vec<Tensor>);
    let cases: [(&str, Change, &str); 2] = [
        (
            "other shapes",
            |t| *t.iter_mut().find(|t| t.name == NORM).unwrap() = Tensor::bf16(NORM, &[HIDDEN / 2], 1),
            "[256] and [128]",
        ),
        (
            "tensors that the single file lacks",
            |t| t.push(Tensor::bf16("extra.weight", &[4], 1)),
            "extra.weight",
        ),
    ];
    for (case, change, fragment) in cases {
        for with_index in [true, false] {
            let model = folder(&scratch, &format!("{case} {with_index}"));
            let mut shards = others();
            change(&mut shards);
            write_sharded(&model, &shards, 2);
            if !with_index {
                fs::remove_file(model.join(INDEX)).unwrap();
            }
            write_safetensors(&model.join(SINGLE), &micro_llama());
            let run = quantize(&model, &out, "Q8_0", &[]);
            refused(case, &run, fragment, &out);
            refused(case, &run, "two different models", &out);
            let (bytes, said) = converted(&scratch, &model.join(SINGLE));
            assert!(bytes == expected(&scratch, &micro_llama()) && said.is_empty(), "{case}: {said}");
        }
    }
}

#[test]
fn all_shards_without_an_index_are_a_model() {
    let scratch = Scratch::new("weights-unlisted");
    let whole = expected(&scratch, &micro_llama());
    for (name, prefix) in [("usual", "model"), ("named", "fir-1b"), ("variant", "model.fp16")] {
        let model = folder(&scratch, name);
        write_sharded(&model, &micro_llama(), 3);
        fs::remove_file(model.join(INDEX)).unwrap();
        (1..=3).for_each(|i| {
            fs::rename(model.join(shard(i, 3)), model.join(shard(i, 3).replacen("model", prefix, 1)))
                .unwrap();
        });
        let (bytes, said) = converted(&scratch, &model);
        assert!(bytes == whole, "{name}");
        assert!(said.starts_with("note: ") && said.contains(&format!("{prefix}-00003-of-00003")), "{said}");
    }
    // What a repository has beside them is no part of it.
    let model = folder(&scratch, "usual");
    write_safetensors(&model.join("consolidated.safetensors"), &others());
    assert!(converted(&scratch, &model).0 == whole);
}

#[test]
fn shards_that_are_no_model_are_refused() {
    let scratch = Scratch::new("weights-incomplete");
    let out = scratch.path("out.gguf");
    let unlisted = |name: &str| {
        let model = folder(&scratch, name);
        write_sharded(&model, &micro_llama(), 3);
        fs::remove_file(model.join(INDEX)).unwrap();
        model
    };
    let model = unlisted("missing");
    fs::remove_file(model.join(shard(2, 3))).unwrap();
    refused(
        "missing",
        &quantize(&model, &out, "Q8_0", &[]),
        "1 of 3 shards are missing: model-00002-of",
        &out,
    );
    let model = unlisted("twice");
    write_safetensors(&model.join(shard(2, 3)), &micro_llama());
    refused("twice", &quantize(&model, &out, "Q8_0", &[]), "as well", &out);
    let model = folder(&scratch, "two sets");
    write_surroundings(&model);
    for name in ["a-1-of-1.safetensors", "b-1-of-1.safetensors"] {
        write_safetensors(&model.join(name), &micro_llama());
    }
    refused("two sets", &quantize(&model, &out, "Q8_0", &[]), "a-1-of-1.safetensors, b-1-of-1", &out);
}

/// A folder with an adapter's settings.
fn adapter(scratch: &Scratch, name: &str) -> PathBuf {
    let model = folder(scratch, name);
    fs::create_dir_all(&model).unwrap();
    let config = json!({ "peft_type": "LORA", "base_model_name_or_path": "some-lab/Fir-1B", "r": 8 });
    fs::write(model.join("adapter_config.json"), config.to_string()).unwrap();
    model
}

#[test]
fn an_adapter_alone_is_no_model() {
    let scratch = Scratch::new("weights-adapter");
    let out = scratch.path("out.gguf");
    let tensors =
        [Tensor::bf16("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", &[8, HIDDEN], 1)];
    let model = adapter(&scratch, "lora");
    write_safetensors(&model.join("adapter_model.safetensors"), &tensors);
    let renamed = adapter(&scratch, "renamed");
    write_safetensors(&renamed.join("model.safetensors"), &tensors);
    let pickled = adapter(&scratch, "pickled");
    fs::write(pickled.join("adapter_model.bin"), "x").unwrap();
    for input in [&model, &model.join("adapter_model.safetensors"), &renamed, &pickled] {
        let run = quantize(input, &out, "Q8_0", &[]);
        for fragment in ["adapter (LORA)", "`some-lab/Fir-1B`", "merge_and_unload"] {
            refused("adapter", &run, fragment, &out);
        }
        assert_eq!(perplexity(input).status.code(), Some(2));
    }
    // It can be looked at.
    let inspect = kquant(["inspect", model.to_str().unwrap()]);
    assert!(stderr(&inspect).contains("some-lab/Fir-1B"), "{}", stderr(&inspect));
    assert!(ok(inspect).contains("lora_A"));
    // Beside a model it is left alone, with a note.
    let both = adapter(&scratch, "both");
    write_folder(&both, &micro_llama());
    write_safetensors(&both.join("adapter_model.safetensors"), &tensors);
    let (bytes, said) = converted(&scratch, &both);
    assert!(bytes == expected(&scratch, &micro_llama()));
    assert!(
        said.contains("note: ") && said.contains("adapter_config.json") && said.contains("not applied"),
        "{said}"
    );
}

#[test]
fn mistrals_own_format_is_named() {
    let scratch = Scratch::new("weights-consolidated");
    let out = scratch.path("out.gguf");
    let tensors = [
        Tensor::bf16("tok_embeddings.weight", &[VOCAB, HIDDEN], 1),
        Tensor::bf16("layers.0.attention.wq.weight", &[HIDDEN, HIDDEN], 2),
    ];
    for names in [
        &["consolidated.safetensors"][..],
        &["consolidated-1-of-2.safetensors", "consolidated-2-of-2.safetensors"],
    ] {
        let model = folder(&scratch, &names.len().to_string());
        fs::create_dir_all(&model).unwrap();
        names
            .iter()
            .zip(tensors.chunks(2 / names.len()))
            .for_each(|(name, t)| write_safetensors(&model.join(name), t));
        let run = quantize(&model, &out, "Q8_0", &[]);
        refused("consolidated", &run, "Mistral's own format", &out);
        refused("consolidated", &run, "model.safetensors", &out);
        ok(kquant(["inspect", model.to_str().unwrap()]));
    }
}

#[test]
fn weights_of_other_programs_are_named() {
    let scratch = Scratch::new("weights-other");
    let out = scratch.path("out.gguf");
    for (names, whose) in [
        (&["pytorch_model.bin"][..], "PyTorch"),
        (
            &[
                "pytorch_model-00001-of-00002.bin",
                "pytorch_model-00002-of-00002.bin",
                "pytorch_model.bin.index.json",
            ],
            "PyTorch",
        ),
        (&["consolidated.00.pth", "params.json"], "PyTorch"),
        (&["model.pt"], "PyTorch"),
        (&["model.ckpt"], "PyTorch"),
        (&["tf_model.h5"], "TensorFlow"),
        (&["flax_model.msgpack"], "Flax"),
        (&["model.onnx"], "ONNX"),
    ] {
        let model = folder(&scratch, names[0]);
        write_surroundings(&model);
        names.iter().for_each(|name| fs::write(model.join(name), "x").unwrap());
        for input in [model.clone(), model.join(names[0])] {
            let run = quantize(&input, &out, "Q8_0", &[]);
            for fragment in [whose, names[0], "save_pretrained"] {
                refused(names[0], &run, fragment, &out);
            }
        }
    }
    // By its first bytes, whatever the name.
    for start in [&b"PK\x03\x04\x00\x00\x08\x08rest"[..], b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j"] {
        let file = scratch.path("weights.dat");
        fs::write(&file, start).unwrap();
        refused("pickle", &quantize(&file, &out, "Q8_0", &[]), "weights of PyTorch", &out);
    }
    // Safetensors whose header is as long as a pickle's first bytes say.
    let tensors = [Tensor::bf16("a.weight", &[4], 1)];
    let mut header = serde_json::to_vec(&safetensors_header(&tensors)).unwrap();
    header.resize(0x0280, b' ');
    let file = scratch.path("blob");
    fs::write(&file, [&0x0280u64.to_le_bytes()[..], &header, &tensors[0].data].concat()).unwrap();
    assert!(ok(kquant(["inspect", file.to_str().unwrap()])).contains("a.weight"));
    // What a training run leaves beside is none.
    let model = folder(&scratch, "trained");
    write_surroundings(&model);
    fs::write(model.join("training_args.bin"), "x").unwrap();
    refused("no weights", &quantize(&model, &out, "Q8_0", &[]), "has no safetensors file", &out);
}
