//! Settings of a quantization beside plain weights.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::quantized_inputs::layouts::*;
use crate::support::*;

/// The bytes of the GGUF that the micro model gives with `settings` in `file`, and what is said on the way.
fn converted(scratch: &Scratch, file: &str, settings: Option<&Json>) -> (Vec<u8>, String) {
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    let _ = fs::remove_dir_all(&model);
    write_folder(&model, &micro_llama());
    if let Some(settings) = settings {
        write(&model, file, settings);
    }
    let run = quantize(&model, &out, "Q8_0", &["--force"]);
    let said = stderr(&run);
    ok(run);
    (fs::read(out).unwrap(), said)
}

fn write(model: &Path, file: &str, settings: &Json) {
    if file == "config.json" {
        configure(model, settings.clone());
    } else {
        fs::write(model.join(file), settings.to_string()).unwrap();
    }
}

#[test]
fn settings_without_packed_weights_are_left_out_with_a_note() {
    let scratch = Scratch::new("left-over");
    let (plain, said) = converted(&scratch, "", None);
    assert_eq!(said, "");
    let method = |name: &str| json!({ "quant_method": name });
    let mut cases = vec![
        ("config.json", json!({}), "unknown"),
        ("config.json", json!({ "load_in_4bit": true }), "bitsandbytes"),
        ("config.json", gptq_config(4, 64), "gptq"),
        ("config.json", awq_config(64), "awq"),
        ("config.json", compressed_config("pack-quantized", 4), "compressed-tensors"),
        ("config.json", json!({ "quant_method": "fp8", "weight_block_size": [128, 128] }), "fp8"),
        ("hf_quant_config.json", json!({ "quantization": { "quant_algo": "NVFP4" } }), "modelopt"),
        ("quantize_config.json", json!({ "bits": 4, "group_size": 128 }), "gptq"),
        ("quant_config.json", json!({ "w_bit": 4 }), "awq"),
    ];
    let names =
        ["bitsandbytes", "hqq", "aqlm", "quanto", "eetq", "vptq", "bitnet", "torchao", "mxfp4", "fbgemm_fp8"];
    cases.extend(names.map(|name| ("config.json", method(name), name)));
    for (file, settings, name) in cases {
        let (bytes, said) = converted(&scratch, file, Some(&settings));
        assert!(bytes == plain, "{settings}");
        let wanted = format!("{file}: says that the weights are quantized ({name}), but no tensor is packed");
        assert!(said.starts_with("note: ") && said.contains(&wanted), "{settings}: {said}");
        assert!(!said.contains("can be no better"), "{said}");
    }
}

/// Of a model with several parts the settings are those of its text.
#[test]
fn settings_of_the_text_part_are_left_out_too() {
    let scratch = Scratch::new("left-over-text");
    let (plain, _) = converted(&scratch, "", None);
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    let mut config = micro_config();
    config["text_config"] = json!({ "quantization_config": { "quant_method": "bitsandbytes" } });
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let run = quantize(&model, &out, "Q8_0", &["--force"]);
    assert!(stderr(&run).contains("no tensor is packed"), "{}", stderr(&run));
    ok(run);
    assert!(fs::read(out).unwrap() == plain);
}

#[test]
fn packed_weights_stay_refused_and_so_does_what_plain_weights_do_not_tell() {
    let scratch = Scratch::new("left-over-refused");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    let up = "model.layers.0.mlp.up_proj.weight";
    let with = |name: &str, dtype: &'static str, size: usize| {
        let mut tensors = micro_llama();
        let weight = tensors.iter_mut().find(|t| t.name == up).unwrap();
        let n = weight.shape.iter().product::<u64>() as usize;
        *weight = Tensor { name: up.into(), dtype, shape: weight.shape.clone(), data: vec![0; n * size] };
        tensors.push(Tensor::f32(&format!("{up}{name}"), &[1], &[1.0]));
        tensors
    };
    let bitsandbytes = json!({ "quant_method": "bitsandbytes" });
    let mut turned = compressed_config("pack-quantized", 4);
    turned["transform_config"] = json!({ "config_groups": { "R1": { "type": "hadamard" } } });
    for (tensors, settings, fragment) in [
        (with(".absmax", "U8", 1), bitsandbytes.clone(), "bitsandbytes"),
        (with(".SCB", "I8", 1), bitsandbytes, "bitsandbytes"),
        (with(".absmax", "U8", 1), json!({}), "unknown"),
        (micro_llama(), json!({ "quant_method": "bitnet", "quantization_mode": "online" }), "bitnet"),
        (micro_llama(), turned, "transform_config"),
    ] {
        let _ = fs::remove_dir_all(&model);
        write_folder(&model, &tensors);
        write(&model, "config.json", &settings);
        refused(fragment, &quantize(&model, &out, "Q8_0", &[]), fragment, &out);
    }
}

#[test]
fn settings_that_cannot_be_read_are_named() {
    let scratch = Scratch::new("left-over-malformed");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    for file in ["hf_quant_config.json", "quantize_config.json", "quant_config.json"] {
        let _ = fs::remove_dir_all(&model);
        write_folder(&model, &micro_llama());
        fs::write(model.join(file), "{").unwrap();
        refused(
            file,
            &quantize(&model, &out, "Q8_0", &[]),
            &format!("{file} is not valid JSON: line 1"),
            &out,
        );
        ok(kquant(["inspect", model.to_str().unwrap()]));
    }
}
