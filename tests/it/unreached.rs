//! Experts that no token of the text reached are told of, by `calibrate` and by `quantize`.
use std::path::{Path, PathBuf};

use crate::support::{Scratch, copy_changed, data, kquant, ok, quantize, stderr};

const TEXT: [&str; 4] = ["--context", "64", "--chunks", "4"];
const TOLD: &str =
    "no token of the text reached 1 expert, 1 of 4 in layer 0: nothing is known of what enters them";

/// tests/data/archs/gpt_oss with a router that never chooses expert 2 of the first layer.
fn shunned(folder: &Path) -> PathBuf {
    copy_changed("archs/gpt_oss", folder, "model.layers.0.mlp.router.bias", |_, data| {
        data[4..6].copy_from_slice(&half::bf16::from_f32(-1e4).to_le_bytes());
    })
}

#[test]
fn calibrate_and_quantize_tell_of_experts_that_met_no_token() {
    let scratch = Scratch::new("unreached");
    let (model, out) = (shunned(&scratch.path("model")), scratch.path("out.gguf"));
    let text = data("corpora/calibration-small.txt");
    let calibrate = |model: &Path, name: &str, more: &[&str]| {
        let path = scratch.path(name);
        let args = ["calibrate", model.to_str().unwrap(), "--text", text.to_str().unwrap(), "--force", "-o"];
        let run = kquant(args.iter().chain(&[path.to_str().unwrap()]).chain(&TEXT).chain(more));
        let message = stderr(&run);
        ok(run);
        (path, message)
    };
    for (name, more) in [("i.gguf", &[][..]), ("i.dat", &[]), ("s.gguf", &["--hessian"])] {
        let (path, message) = calibrate(&model, name, more);
        assert!(message.contains(&format!("warning: {TOLD}")), "{name}: {message}");
        for more in [&[][..], &["--encoder", "ggml"]] {
            let file = ["--imatrix", path.to_str().unwrap(), "--force", "--allow-requantize"];
            let run = quantize(&model, &out, "Q4_0", &[&file, more].concat());
            let message = stderr(&run);
            assert_eq!(message.matches(TOLD).count(), 1, "{name} {more:?}: {message}");
            ok(run);
        }
        let (path, message) = calibrate(&data("archs/gpt_oss"), name, more);
        assert!(!message.contains("no token"), "{name}: {message}");
        let file = ["--imatrix", path.to_str().unwrap(), "--force", "--allow-requantize"];
        let run = quantize(&model, &out, "Q4_0", &file);
        assert!(!stderr(&run).contains("no token"), "{name}: {}", stderr(&run));
        ok(run);
    }
    let (_, quiet) = calibrate(&model, "q.gguf", &["--quiet"]);
    assert!(!quiet.contains("no token"), "{quiet}");
    for encoder in ["auto", "gptq"] {
        let text =
            ["--calibrate", text.to_str().unwrap(), "--encoder", encoder, "--force", "--allow-requantize"];
        let run = quantize(&model, &out, "Q4_0", &[&text, &TEXT[..]].concat());
        let message = stderr(&run);
        assert_eq!(message.matches(TOLD).count(), 1, "{encoder}: {message}");
        ok(run);
    }
}
