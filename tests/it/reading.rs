//! Files are read within any memory, whatever happens to them meanwhile.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{
    Scratch, Tensor, beginning_with, data, kquant, micro_config, micro_llama, noise, ok, quantize, refused,
    write_folder, write_sharded,
};
use kquant::checkpoint::open;

/// Asserts that every budget gives the same bytes.
fn same_bytes(scratch: &Scratch, model: &Path, kind: &str) {
    let outputs = ["2G", "24K", "200K"].map(|memory| {
        let out = scratch.path("out.gguf");
        ok(quantize(model, &out, kind, &["--force", "--memory", memory, "--threads", "3"]));
        fs::read(&out).unwrap()
    });
    assert!(outputs.iter().all(|o| *o == outputs[0]), "{} {kind}", model.display());
}

#[test]
fn every_budget_gives_the_same_output() {
    let scratch = Scratch::new("reading");
    let (folder, shards) = (scratch.path("model"), scratch.path("shards"));
    write_folder(&folder, &micro_llama());
    write_sharded(&shards, &micro_llama(), 3);
    for model in [&folder, &shards] {
        same_bytes(&scratch, model, "Q4_K_M");
    }
    // A GGUF, and a copy of its bytes.
    let gguf = scratch.path("bf16.gguf");
    ok(quantize(&data("tiny-llama"), &gguf, "BF16", &[]));
    same_bytes(&scratch, &gguf, "Q8_0");
    same_bytes(&scratch, &gguf, "COPY");
    // Transposed tensors.
    same_bytes(&scratch, &data("archs/gpt2"), "Q8_0");
}

/// The path of a tiny safetensors file of one tensor, 64 rows of 512 F32 weights.
fn one_tensor(folder: &Path) -> PathBuf {
    write_folder(folder, &[Tensor::f32("w", &[64, 512], &noise(1, 64 * 512))]);
    folder.join("model.safetensors")
}

#[test]
fn a_truncated_file_is_refused() {
    let scratch = Scratch::new("reading-truncated");
    let (model, out) = (one_tensor(&scratch.path("model")), scratch.path("out.gguf"));
    let bytes = fs::read(&model).unwrap();
    for length in [0, 5, 40, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&model, &bytes[..length]).unwrap();
        refused(&format!("{length} bytes"), &quantize(&model, &out, "F32", &[]), "model.safetensors", &out);
    }
}

#[test]
fn a_file_truncated_while_it_is_open_is_an_error() {
    let scratch = Scratch::new("reading-shrinks");
    let model = one_tensor(&scratch.path("model"));
    let opened = open(&model).unwrap();
    let whole = fs::metadata(&model).unwrap().len();
    fs::OpenOptions::new().write(true).open(&model).unwrap().set_len(whole - 1024).unwrap();
    let mut buffer = Vec::new();
    assert!(opened.checkpoint.fetch(0, 0..62, &mut buffer).is_ok());
    let error = opened.checkpoint.fetch(0, 60..64, &mut buffer).unwrap_err().to_string();
    assert!(error.contains("model.safetensors at byte") && error.contains("fetch it again"), "{error}");
    assert!(
        opened.checkpoint.fetch(0, 60..65, &mut buffer).unwrap_err().to_string().contains("rows 60 to 65")
    );
}

/// A command line, of which the file at `cut` is cut off while it runs.
struct Cut<'a> {
    args: Vec<&'a str>,
    cut: &'a Path,
}

impl Cut<'_> {
    /// Runs the command and cuts the file off after `delay`. Asserts that the run ended by itself, with nothing of `out` left if it
    /// failed, and returns whether it did.
    fn fails(&self, delay: Duration, out: &Path) -> bool {
        let whole = fs::read(self.cut).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kquant"));
        let run = command.args(&self.args).args(["-o", out.to_str().unwrap(), "--force", "--quiet"]);
        let run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(delay);
        fs::OpenOptions::new().write(true).open(self.cut).unwrap().set_len(0).unwrap();
        let ended = run.wait_with_output().unwrap();
        fs::write(self.cut, whole).unwrap();
        let message = String::from_utf8_lossy(&ended.stderr);
        let failed = match ended.status.code() {
            Some(0) => false,
            Some(2) => true,
            code => panic!("{:?} cut after {delay:?}: {code:?} {}, {message}", self.args, ended.status),
        };
        if failed {
            // A journal is of use when the file is fetched again.
            let left: Vec<String> =
                beginning_with(out).into_iter().filter(|name| !name.ends_with("-journal")).collect();
            assert!(left.is_empty(), "{:?}: {left:?}", self.args);
        }
        ok(kquant(["clean", out.to_str().unwrap()]));
        let _ = fs::remove_file(out);
        failed
    }
}

#[test]
fn a_file_that_is_cut_off_while_it_is_read_ends_no_run_by_a_signal() {
    let scratch = Scratch::new("reading-cut");
    let text = scratch.path("text.txt");
    fs::copy(data("corpora/calibration-small.txt"), &text).unwrap();
    let [gguf, hessians, fishers, merged] =
        ["in.gguf", "hessians.gguf", "fishers.gguf", "merged.gguf"].map(|name| scratch.path(name));
    let model = data("tiny-llama");
    ok(quantize(&model, &gguf, "F32", &[]));
    let path = |path: &'_ Path| path.to_str().unwrap().to_owned();
    for (out, what) in [(&hessians, "--hessian"), (&fishers, "--fisher")] {
        let args = ["calibrate", &path(&model), "--text", &path(&text), "--chunks", "8", "-c", "64"];
        ok(kquant(args.into_iter().chain([what, "-o", &path(out)])));
    }
    fs::copy(&hessians, &merged).unwrap();
    let names = [&gguf, &hessians, &fishers, &merged, &model].map(|found| path(found));
    let [gguf_name, hessians_name, fishers_name, merged_name, model_name] =
        names.each_ref().map(|name| &**name);
    let runs = [
        Cut { args: vec!["quantize", gguf_name, "--type", "IQ4_XS", "--allow-requantize"], cut: &gguf },
        Cut {
            args: vec!["quantize", model_name, "--type", "Q3_K_S", "--imatrix", hessians_name],
            cut: &hessians,
        },
        Cut {
            args: vec![
                "quantize",
                model_name,
                "--type",
                "Q3_K_S",
                "--quality",
                "best",
                "--imatrix",
                fishers_name,
            ],
            cut: &fishers,
        },
        Cut { args: vec!["imatrix", "merge", merged_name], cut: &merged },
    ];
    let out = scratch.path("out.gguf");
    let mut failed = 0;
    for run in runs {
        for delay in [1, 5, 10, 20, 40, 80, 160] {
            failed += usize::from(run.fails(Duration::from_millis(delay), &out));
        }
    }
    assert!(failed > 0, "no run saw its file cut off");
}

#[cfg(unix)]
#[test]
fn models_of_more_files_than_may_be_open_are_read() {
    let scratch = Scratch::new("reading-many");
    let folders = ["few/model", "many/model"].map(|name| scratch.path(name));
    // One layer of the small model again and again, each tensor in a file of its own.
    let layers = 20;
    let tensors: Vec<Tensor> = (0..layers)
        .flat_map(|layer| micro_llama().into_iter().map(move |tensor| (layer, tensor)))
        .filter(|(layer, tensor)| *layer == 0 || tensor.name.contains("layers.0."))
        .map(|(layer, tensor)| Tensor {
            name: tensor.name.replace("layers.0.", &format!("layers.{layer}.")),
            ..tensor
        })
        .collect();
    let mut config = micro_config();
    config["num_hidden_layers"] = layers.into();
    let outs = folders.iter().zip([1, tensors.len()]).map(|(folder, files)| {
        write_sharded(folder, &tensors, files);
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let out = folder.join("out.gguf");
        let run = Command::new("sh")
            .args(["-c", "ulimit -n 160; exec \"$0\" quantize \"$1\" -o \"$2\" --type Q8_0"])
            .args([Path::new(env!("CARGO_BIN_EXE_kquant")), folder, &out])
            .output()
            .unwrap();
        ok(run);
        fs::read(out).unwrap()
    });
    let outs: Vec<Vec<u8>> = outs.collect();
    assert!(tensors.len() > 160 && outs[0] == outs[1]);
}
