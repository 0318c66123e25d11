//! Parts that do not fit, and methods that are not read.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::quantized_inputs::layouts::*;
use crate::support::*;

const BASE: &str = "model.layers.0.mlp.up_proj";

/// Writes the micro model with one quantized weight and settings, both changed.
fn write(folder: &Path, settings: Json, parts: Vec<Tensor>) {
    let mut tensors: Vec<Tensor> =
        micro_llama().into_iter().filter(|t| !t.name.starts_with(BASE)).chain(parts).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    write_folder(folder, &tensors);
    configure(folder, settings);
}

fn refuse(case: &str, settings: Json, parts: Vec<Tensor>, fragments: &[&str]) {
    let scratch = Scratch::new(&format!("quantized-refused-{}", case.replace(' ', "-")));
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    write(&model, settings, parts);
    let result = quantize(&model, &out, "Q4_K_M", &[]);
    for fragment in fragments {
        refused(case, &result, fragment, &out);
    }
}

/// A weight of the micro model in codes.
fn coded(bits: usize) -> Coded {
    Coded::new(HIDDEN as usize, HIDDEN as usize, bits, 64, false)
}

fn gptq() -> Vec<Tensor> {
    coded(4).gptq(BASE, 1)
}

fn named<'a>(tensors: &'a mut [Tensor], end: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|t| t.name.ends_with(end)).unwrap()
}

fn without(mut tensors: Vec<Tensor>, end: &str) -> Vec<Tensor> {
    tensors.retain(|t| !t.name.ends_with(end));
    tensors
}

#[test]
fn parts_of_gptq_and_awq() {
    let file = "model.safetensors";
    let config = || gptq_config(4, 64);
    refuse("no scales", config(), without(gptq(), ".scales"), &[file, "up_proj.qweight`", "up_proj.scales`"]);
    refuse("no zero points", config(), without(gptq(), ".qzeros"), &[file, "up_proj.qzeros`"]);
    let mut parts = gptq();
    named(&mut parts, ".g_idx").data[40..44].copy_from_slice(&4i32.to_le_bytes());
    refuse(
        "group out of range",
        config(),
        parts,
        &[file, "up_proj.g_idx`", "column 10 is of group 4", "there are 4"],
    );
    let mut parts = gptq();
    named(&mut parts, ".g_idx").data[0..4].copy_from_slice(&(-1i32).to_le_bytes());
    refuse("negative group", config(), parts, &["up_proj.g_idx`", "group -1"]);
    let mut parts = gptq();
    named(&mut parts, ".qzeros").shape = vec![2, 64];
    refuse("zero points of a wrong shape", config(), parts, &[file, "up_proj.qzeros`"]);
    let mut parts = gptq();
    named(&mut parts, ".scales").shape = vec![HIDDEN, 4];
    refuse("scales turned", config(), parts, &["up_proj.scales`", "expected [256, 256]"]);
    refuse("other bits", gptq_config(8, 64), gptq(), &["up_proj.qzeros`", "8 bits"]);
    refuse(
        "other groups",
        gptq_config(4, 48),
        without(gptq(), ".g_idx"),
        &["up_proj.scales`", "groups of 48"],
    );
    let mut parts = without(gptq(), ".g_idx");
    let scales = named(&mut parts, ".scales");
    (scales.shape[0], scales.data) = (3, scales.data[..3 * 512].to_vec());
    let zeros = named(&mut parts, ".qzeros");
    (zeros.shape[0], zeros.data) = (3, zeros.data[..3 * 128].to_vec());
    refuse(
        "groups that do not divide",
        json!({ "quant_method": "gptq", "bits": 4 }),
        parts,
        &["no whole number of 3 groups"],
    );
    refuse("5 bits", gptq_config(5, 64), gptq(), &["5 bits"]);
    let mut both = gptq();
    both.push(coded(4).values(&format!("{BASE}.weight")));
    refuse("the weight twice", config(), both, &[file, "up_proj.weight`", "in codes, too"]);
    refuse(
        "awq without scales",
        awq_config(64),
        without(coded(4).awq(BASE), ".scales"),
        &[file, "up_proj.scales`"],
    );
    refuse("awq in other groups", awq_config(128), coded(4).awq(BASE), &["up_proj.scales`", "groups of 128"]);
}

#[test]
fn parts_of_compressed_tensors() {
    let config = || compressed_config("pack-quantized", 4);
    let parts = || coded(4).packed(BASE, true);
    refuse("pack without scales", config(), without(parts(), "_scale"), &["up_proj.weight_scale`"]);
    refuse("no shape", config(), without(parts(), "_shape"), &["up_proj.weight_shape`"]);
    let shaped = |rows: i64, columns: i64| {
        let mut parts = parts();
        named(&mut parts, "_shape").data = [rows, columns].iter().flat_map(|n| n.to_le_bytes()).collect();
        parts
    };
    refuse("shape below zero", config(), shaped(256, -8), &["up_proj.weight_shape`", "256 x -8"]);
    refuse(
        "shape of other rows",
        config(),
        shaped(128, 256),
        &["up_proj.weight_packed`", "expected [128, 32]"],
    );
    refuse(
        "shape of other columns",
        config(),
        shaped(256, 512),
        &["up_proj.weight_packed`", "are not 32 words"],
    );
    refuse(
        "other bits",
        compressed_config("pack-quantized", 8),
        parts(),
        &["up_proj.weight_packed`", "8 bits"],
    );
    let mut wrong = parts();
    named(&mut wrong, "_zero_point").shape = vec![4, 32];
    refuse(
        "pack with zero points turned",
        config(),
        wrong,
        &["up_proj.weight_zero_point`", "expected [32, 4]"],
    );
    let bytes = || without(coded(8).bytes(BASE), "_scale");
    refuse(
        "bytes without scales",
        compressed_config("int-quantized", 8),
        bytes(),
        &["up_proj.weight`", "weight_scale`"],
    );
    let mut wrong = coded(8).bytes(BASE);
    named(&mut wrong, "_scale").shape = vec![4, 256];
    refuse(
        "scales of bytes turned",
        compressed_config("int-quantized", 8),
        wrong,
        &["up_proj.weight_scale`"],
    );
}

#[test]
fn methods_that_are_not_read() {
    let method = |name: &str| json!({ "quant_method": name });
    for name in ["bitsandbytes", "hqq", "aqlm", "quanto", "eetq", "vptq", "bitnet", "torchao"] {
        refuse(name, method(name), gptq(), &[name, "Give the original checkpoint"]);
    }
    refuse("bitsandbytes, unnamed", json!({ "load_in_4bit": true }), gptq(), &["bitsandbytes"]);
    for version in ["gemv", "marlin", "exllama", "ipex"] {
        let mut settings = awq_config(64);
        settings["version"] = version.into();
        refuse(version, settings, coded(4).awq(BASE), &[version, "not `gemm`"]);
    }
    let mut settings = gptq_config(4, 64);
    settings["checkpoint_format"] = "marlin".into();
    refuse("gptq in Marlin's layout", settings, gptq(), &["`marlin`"]);
    refuse("marlin-24", compressed_config("marlin-24", 4), gptq(), &["`marlin-24`"]);
    let mut settings = compressed_config("pack-quantized", 4);
    settings["sparsity_config"] = json!({ "format": "sparse-24-bitmask" });
    refuse("sparse", settings, gptq(), &["sparse-24-bitmask"]);
    let mut settings = compressed_config("pack-quantized", 4);
    settings["transform_config"] = json!({ "config_groups": { "R1": { "type": "hadamard" } } });
    refuse("rotated", settings, gptq(), &["transform_config"]);
}

/// What cannot be converted can be looked at.
#[test]
fn inspect_shows_what_is_not_read() {
    let scratch = Scratch::new("quantized-shown");
    let model = scratch.path("model");
    write(&model, json!({ "quant_method": "hqq" }), gptq());
    let shown = ok(kquant(["inspect", model.to_str().unwrap()]));
    assert!(shown.contains("quantized: hqq, not supported") && shown.contains("up_proj.qzeros"), "{shown}");
}
