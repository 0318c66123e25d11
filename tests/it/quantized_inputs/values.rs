//! What is written is what the codes stand for.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::quantized_inputs::layouts::*;
use crate::support::*;

/// The micro model with the weights in `parts` replaced by codes, and by their values in `plain`.
fn write_both(
    folder: &Path,
    plain: &Path,
    settings: Json,
    bits: usize,
    turns: bool,
    parts: impl Fn(&Coded, &str) -> Vec<Tensor>,
    symmetric: bool,
) {
    const LAYERS: [&str; 4] = ["self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.down_proj"];
    let (mut own, mut values) = (Vec::new(), Vec::new());
    for t in micro_llama() {
        match t.name.strip_suffix(".weight").filter(|base| LAYERS.iter().any(|layer| base.ends_with(layer))) {
            Some(base) => {
                let coded = Coded::new(t.shape[0] as usize, HIDDEN as usize, bits, 64, turns);
                let coded = if symmetric { coded.symmetric() } else { coded };
                values.push(coded.values(&t.name));
                own.extend(parts(&coded, base));
            }
            None => {
                own.push(t.clone());
                values.push(t);
            }
        }
    }
    // Some programs also store scales of activations.
    own.push(Tensor::f32("model.layers.0.self_attn.k_scale", &[1], &[1.0]));
    write_sharded(folder, &own, 2);
    configure(folder, settings);
    write_folder(plain, &values);
}

/// Name and hash of every tensor that `quantize` reports.
fn hashes(report: &str) -> Vec<(String, String)> {
    let report: Json = serde_json::from_str(report).unwrap();
    let tensors = report["files"][0]["tensors"].as_array().unwrap().iter();
    tensors.map(|t| (t["name"].to_string(), t["sha256"].to_string())).collect()
}

/// One layout: its name, settings, bits, whether groups take columns in turns, how parts are made, whether zeros are fixed.
type Case = (&'static str, Json, usize, bool, fn(&Coded, &str) -> Vec<Tensor>, bool);

fn cases() -> Vec<Case> {
    let mut v2 = gptq_config(2, 64);
    v2["checkpoint_format"] = "gptq_v2".into();
    vec![
        ("gptq, 4 bits", gptq_config(4, 64), 4, false, |c, base| c.gptq(base, 1), false),
        ("gptq, 3 bits", gptq_config(3, 64), 3, false, |c, base| c.gptq(base, 1), false),
        ("gptq, 8 bits, order", gptq_config(8, 64), 8, true, |c, base| c.gptq(base, 1), false),
        ("gptq v2, 2 bits, order", v2, 2, true, |c, base| c.gptq(base, 0), false),
        ("awq", awq_config(64), 4, false, |c, base| c.awq(base), false),
        ("pack", compressed_config("pack-quantized", 4), 4, false, |c, base| c.packed(base, false), true),
        (
            "pack, zeros",
            compressed_config("pack-quantized", 4),
            4,
            false,
            |c, base| c.packed(base, true),
            false,
        ),
        (
            "pack, 8 bits",
            compressed_config("pack-quantized", 8),
            8,
            false,
            |c, base| c.packed(base, true),
            false,
        ),
        ("bytes", compressed_config("int-quantized", 8), 8, false, |c, base| c.bytes(base), true),
    ]
}

#[test]
fn codes_become_the_values_they_stand_for() {
    for (name, settings, bits, turns, parts, symmetric) in cases() {
        let scratch = Scratch::new("quantized-values");
        let (own, plain) = (scratch.path("own"), scratch.path("plain"));
        write_both(&own, &plain, settings, bits, turns, parts, symmetric);
        let run = |model: &Path, more: &[&str]| {
            let more: Vec<&str> = more.iter().copied().chain(["--json", "--force"]).collect();
            hashes(&ok(quantize(model, &scratch.path("out.gguf"), "F32", &more)))
        };
        let expected = run(&plain, &[]);
        assert_eq!(run(&own, &["--memory", "2G"]), expected, "{name}");
        assert_eq!(run(&own, &["--memory", "40K", "--threads", "1"]), expected, "{name}, little memory");
    }
}

#[test]
fn a_note_and_inspect_tell_of_the_source() {
    let scratch = Scratch::new("quantized-told");
    let own = scratch.path("own");
    write_both(&own, &scratch.path("plain"), gptq_config(4, 64), 4, false, |c, base| c.gptq(base, 1), false);
    let out = quantize(&own, &scratch.path("out.gguf"), "Q4_K_M", &[]);
    let notes: Vec<String> =
        stderr(&out).lines().filter(|l| l.starts_with("note:")).map(str::to_owned).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("the source is quantized (gptq, 4 bits, groups of 64)"), "{notes:?}");
    ok(out);
    let shown = ok(kquant(["inspect", own.to_str().unwrap()]));
    assert!(shown.contains("quantized: gptq, 4 bits, groups of 64"), "{shown}");
    assert!(
        shown.lines().any(|l| l.contains("q_proj.weight") && l.contains("INT4") && l.contains("[256, 256]"))
    );
    assert!(!shown.contains("qzeros"), "{shown}");
}

/// What nothing quantizes is stored in the type of the scales.
#[test]
fn what_is_kept_has_the_precision_of_the_scales() {
    let scratch = Scratch::new("quantized-kept");
    let (own, out) = (scratch.path("own"), scratch.path("out.gguf"));
    write_both(&own, &scratch.path("plain"), awq_config(64), 4, false, |c, base| c.awq(base), false);
    let report: Json = serde_json::from_str(&ok(quantize(&own, &out, "COPY", &["--json"]))).unwrap();
    let tensors = report["files"][0]["tensors"].as_array().unwrap();
    let kind = |name: &str| tensors.iter().find(|t| t["name"] == name).unwrap()["type"].clone();
    assert_eq!([kind("blk.0.attn_q.weight"), kind("blk.0.attn_v.weight")], ["F16", "BF16"]);
}

/// Latent attention turns a part of each head's rows: columns of rows that are gathered whole.
#[test]
fn codes_whose_rows_become_columns() {
    let scratch = Scratch::new("quantized-turned");
    let folder = data("archs/deepseek_v3");
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (mut own, mut plain) = (Vec::new(), Vec::new());
    for (name, view) in file.iter() {
        let shape = view.shape();
        match name.strip_suffix(".weight").filter(|base| base.ends_with("kv_b_proj")) {
            Some(base) => {
                let coded = Coded::new(shape[0], shape[1], 4, 16, true);
                plain.push(coded.values(name));
                own.extend(coded.gptq(base, 1));
            }
            None => {
                let same = tensor(name.to_owned(), "BF16", shape, view.data().to_vec());
                plain.push(same.clone());
                own.push(same);
            }
        }
    }
    let mut config: Json = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let mut made = Vec::new();
    for (name, tensors) in [("plain", plain), ("own", own)] {
        let model = scratch.path(name);
        write_folder(&model, &tensors);
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(folder.join(file), model.join(file)).unwrap();
        }
        fs::write(model.join("config.json"), config.to_string()).unwrap();
        config["quantization_config"] = gptq_config(4, 16);
        for memory in ["2G", "40K"] {
            let out = scratch.path("out.gguf");
            made.push(hashes(&ok(quantize(&model, &out, "F32", &["--json", "--force", "--memory", memory]))));
        }
    }
    assert!(
        made.iter().all(|hashes| *hashes == made[0])
            && made[0].iter().any(|(name, _)| name.contains("attn_k_b"))
    );
}
