//! Files of a given size: `kquant prices` and `kquant quantize --size`, `--bpw`, `--predicted-kl`.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};
use serde_json::Value as Json;

/// Text enough for a few tokens per column.
const TEXT: [&str; 4] = ["--context", "64", "--chunks", "64"];

/// The types that `--menu phone` may choose.
const PHONE: [&str; 7] = ["Q4_0", "IQ4_NL", "MXFP4", "Q4_K", "Q5_K", "Q6_K", "Q8_0"];

fn run(command: &str, model: &Path, more: &[&str]) -> Output {
    kquant([command, model.to_str().unwrap()].iter().chain(more))
}

/// Statistics of `model`, with or without what prices in nats need.
fn statistics(scratch: &Scratch, model: &Path, more: &[&str]) -> PathBuf {
    let (out, text) = (scratch.path("statistics.gguf"), data("corpora/calibration-small.txt"));
    let paths = ["--text", text.to_str().unwrap(), "-o", out.to_str().unwrap(), "-q", "--force"];
    ok(run("calibrate", model, &[&paths[..], &TEXT, more].concat()));
    out
}

fn full_statistics(scratch: &Scratch, model: &Path) -> PathBuf {
    statistics(scratch, model, &["--fisher", "--output-tensor"])
}

/// Runs `kquant quantize MODEL -o OUT` without a file type.
fn sized(model: &Path, out: &Path, more: &[&str]) -> Output {
    run("quantize", model, &[&["-o", out.to_str().unwrap()], more].concat())
}

/// The plan that `--dry-run --json` prints.
fn plan(model: &Path, more: &[&str]) -> Json {
    serde_json::from_str(&ok(run("quantize", model, &[&["--dry-run", "--json"], more].concat()))).unwrap()
}

/// Type of each tensor of a plan.
fn types(plan: &Json) -> BTreeMap<String, String> {
    let tensors = plan["tensors"].as_array().unwrap().iter();
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    tensors.map(|t| (text(&t["name"]), text(&t["type"]))).collect()
}

#[test]
fn a_file_of_a_size_is_better_than_a_mixture_of_that_size() {
    let (scratch, model) = (Scratch::new("sizes-better"), data("tiny-llama"));
    let statistics = full_statistics(&scratch, &model);
    let eval = data("corpora/eval-small.txt");
    let how = [
        ["--statistics", statistics.to_str().unwrap()],
        ["--encoder", "ggml"],
        ["--verify", eval.to_str().unwrap()],
        ["--chunks", "24"],
        ["--context", "128"],
        ["--json", "--quiet"],
    ]
    .concat();
    let printed = |output: Output| -> Json { serde_json::from_str(&ok(output)).unwrap() };
    let mixture = printed(quantize(&model, &scratch.path("mixture"), "Q3_K_M", &how));
    let bytes = mixture["files"][0]["bytes"].as_u64().unwrap();
    let size = bytes.to_string();
    let out = scratch.path("sized");
    let chosen = printed(sized(&model, &out, &[&how[..], &["--size", &size]].concat()));
    let written = fs::metadata(&out).unwrap().len();
    assert!(written <= bytes && written as f64 >= 0.995 * bytes as f64, "{written} of {bytes}");
    let kl = |of: &Json| of["proof"]["kl"]["mean"].as_f64().unwrap();
    assert!(kl(&chosen) < 0.8 * kl(&mixture), "{} and {}", kl(&chosen), kl(&mixture));
    let predicted = chosen["allocation"]["predicted"].as_f64().unwrap();
    assert!((0.7..1.4).contains(&(predicted / kl(&chosen))), "{predicted} and {}", kl(&chosen));
    let bound = chosen["allocation"]["bound"].as_f64().unwrap();
    assert!(bound <= predicted && bound > 0.97 * predicted, "{bound} and {predicted}");
}

#[test]
fn one_command_chooses_what_the_steps_choose() {
    let (scratch, model) = (Scratch::new("sizes-steps"), data("tiny-llama"));
    let statistics = full_statistics(&scratch, &model);
    let (text, prices) = (data("corpora/calibration-small.txt"), scratch.path("prices.json"));
    let level = ["--quality", "best", "--products", "f32"];
    let by_text = [&["--calibrate", text.to_str().unwrap()], &TEXT[..], &level].concat();
    let by_file = [&["--statistics", statistics.to_str().unwrap()], &level[..]].concat();
    ok(run("prices", &model, &[&["-o", prices.to_str().unwrap()], &by_file[..]].concat()));
    let by_list = [&["--prices", prices.to_str().unwrap()], &by_text[..]].concat();
    let plans = [by_text, by_list].map(|how| plan(&model, &[&["--bpw", "4"], &how[..]].concat()));
    assert_eq!(types(&plans[0]), types(&plans[1]));
    assert_eq!(plans[0]["allocation"], plans[1]["allocation"]);
    let used: std::collections::BTreeSet<_> = types(&plans[0]).into_values().collect();
    assert!(used.len() > 3, "{used:?}");
}

#[test]
fn threads_memory_and_instructions_change_no_price() {
    let (scratch, model) = (Scratch::new("sizes-same"), data("tiny-llama"));
    let statistics = full_statistics(&scratch, &model);
    let prices = |name: &str, means: &[&str]| {
        let out = scratch.path(name);
        let how = [
            "--statistics",
            statistics.to_str().unwrap(),
            "--quality",
            "best",
            "--menu",
            "Q2_K,IQ2_XS,Q4_0,Q8_0",
        ];
        ok(run("prices", &model, &[&["-o", out.to_str().unwrap()], &how[..], means].concat()));
        fs::read(&out).unwrap()
    };
    let expected = prices("two", &["--threads", "2"]);
    for (name, means) in [
        ("one", &["--threads", "1"][..]),
        ("small", &["--threads", "3", "--memory", "24M"]),
        ("scalar", &["--isa", "scalar"]),
    ] {
        assert!(prices(name, means) == expected, "{name}");
    }
    let out = scratch.path("tight");
    let tight = ["-o", out.to_str().unwrap(), "--statistics", statistics.to_str().unwrap(), "--memory", "1M"];
    refused("tight", &run("prices", &model, &tight), "give --memory", &out);
}

#[test]
fn a_phone_gets_types_that_it_has_kernels_for() {
    let scratch = Scratch::new("sizes-phone");
    for arch in ["mixtral", "deepseek_v3", "stablelm2", "gpt2"] {
        let model = data("archs").join(arch);
        let statistics = full_statistics(&scratch, &model);
        let how = ["--statistics", statistics.to_str().unwrap(), "--menu", "phone", "--bpw", "7"];
        let plan = plan(&model, &how);
        let tensors = plan["tensors"].as_array().unwrap();
        let chosen: Vec<&Json> =
            tensors.iter().filter(|t| t["price"].as_f64().is_some_and(|p| p > 0.0)).collect();
        assert!(chosen.len() > 3, "{arch}: {}", chosen.len());
        for tensor in chosen {
            let kind = tensor["type"].as_str().unwrap();
            assert!(PHONE.contains(&kind), "{arch}: {tensor}");
        }
        let kernels = plan["allocation"]["kernels"].as_array().unwrap();
        assert!(!kernels.is_empty() && kernels.iter().all(|k| k[1].as_array().unwrap().len() >= 4));
        let out = scratch.path("phone.gguf");
        let printed = ok(sized(&model, &out, &[&how[..], &["--force"]].concat()));
        assert!(printed.contains("has kernels for Arm CPU"), "{printed}");
    }
}

#[test]
fn a_target_that_cannot_be_met_is_refused_with_both_ends() {
    let (scratch, model) = (Scratch::new("sizes-ends"), data("tiny-llama"));
    let (statistics, out) = (full_statistics(&scratch, &model), scratch.path("out"));
    let prices = scratch.path("prices.json");
    let how = ["--statistics", statistics.to_str().unwrap(), "--encoder", "ggml"];
    ok(run("prices", &model, &[&how[..], &["-o", prices.to_str().unwrap(), "--menu", "cpu"]].concat()));
    let listed = [&how[..], &["--prices", prices.to_str().unwrap(), "--menu", "cpu"]].concat();
    for (target, ends) in [
        (["--size", "100K"], "bytes"),
        (["--bpw", "1"], "bits per weight"),
        (["--predicted-kl", "0"], "nats"),
    ] {
        let output = sized(&model, &out, &[&listed[..], &target].concat());
        refused(target[1], &output, "range from ", &out);
        assert!(stderr(&output).contains(ends), "{}", stderr(&output));
    }
    let printed = ok(sized(&model, &out, &[&listed[..], &["--size", "1G"]].concat()));
    assert!(printed.contains("no choice of these types needs"), "{printed}");
    std::fs::remove_file(&out).unwrap();
    let other = sized(&data("archs/gpt2"), &out, &[&["--bpw", "8"], &listed[..]].concat());
    refused("another model", &other, "another model", &out);
    let unpriced =
        sized(&model, &out, &[&how[..], &["--prices", listed[5], "--menu", "phone", "--bpw", "5"]].concat());
    refused("unpriced", &unpriced, "no price of MXFP4", &out);
}

#[test]
fn what_prices_need_is_named() {
    let (scratch, model) = (Scratch::new("sizes-need"), data("tiny-llama"));
    let out = scratch.path("out");
    refused("no types", &sized(&model, &out, &[]), "--size BYTES", &out);
    refused("menu", &sized(&model, &out, &["--bpw", "4", "--menu", "phon"]), "did you mean phone?", &out);
    let matrix = statistics(&scratch, &model, &[]);
    let by_matrix = |target: &[&str]| {
        sized(
            &model,
            &out,
            &[&["--statistics", matrix.to_str().unwrap(), "--encoder", "ggml"], target].concat(),
        )
    };
    refused("relative", &by_matrix(&["--predicted-kl", "0.01"]), "--output-tensor", &out);
    let made = by_matrix(&["--bpw", "4.5"]);
    assert!(stderr(&made).contains("coarser"), "{}", stderr(&made));
    ok(made);
}

#[test]
fn the_output_projection_needs_its_own_statistics() {
    let (scratch, model) = (Scratch::new("sizes-output"), data("archs/llama"));
    let (statistics, out) = (statistics(&scratch, &model, &["--fisher"]), scratch.path("out"));
    let how = ["--statistics", statistics.to_str().unwrap(), "--bpw", "6"];
    for part in ["`output.weight` at any type", "again with --output-tensor"] {
        refused("without", &sized(&model, &out, &how), part, &out);
    }
    ok(sized(&model, &out, &[&how[..], &["--output-tensor-type", "Q8_0"]].concat()));
}

#[test]
fn named_types_hold() {
    let (scratch, model) = (Scratch::new("sizes-named"), data("tiny-llama"));
    let statistics = full_statistics(&scratch, &model);
    let how = ["--statistics", statistics.to_str().unwrap(), "--bpw", "4.5", "--tensor-type", "attn_v=Q8_0"];
    let plan = plan(&model, &[&how[..], &["--token-embedding-type", "Q5_1"]].concat());
    let types = types(&plan);
    assert_eq!(types["token_embd.weight"], "Q5_1");
    assert!(types.iter().filter(|(name, _)| name.contains("attn_v")).all(|(_, kind)| kind == "Q8_0"));
    let nothing =
        ["--statistics", statistics.to_str().unwrap(), "--bpw", "4.5", "--tensor-type", "no_such=Q8_0"];
    let out = scratch.path("out");
    refused("nothing", &sized(&model, &out, &nothing), "matches no tensor", &out);
}

#[test]
fn a_sweep_has_the_curve_the_file_types_and_measured_points() {
    let (scratch, model) = (Scratch::new("sizes-sweep"), data("tiny-llama"));
    let (statistics, prices) = (full_statistics(&scratch, &model), scratch.path("prices.json"));
    let how = ["--statistics", statistics.to_str().unwrap(), "--encoder", "ggml"];
    ok(run("prices", &model, &[&how[..], &["-o", prices.to_str().unwrap()]].concat()));
    let eval = data("corpora/eval-small.txt");
    let swept = |name: &str, means: &[&str]| -> (String, Json) {
        let (svg, json) = (scratch.path(&format!("{name}.svg")), scratch.path(&format!("{name}.json")));
        let files = [
            "--prices",
            prices.to_str().unwrap(),
            "-o",
            svg.to_str().unwrap(),
            "--json",
            json.to_str().unwrap(),
        ];
        let scored = [
            "--measure",
            "4",
            "--text",
            eval.to_str().unwrap(),
            "--points",
            "4",
            "--chunks",
            "8",
            "--context",
            "128",
        ];
        ok(run("sweep", &model, &[&files[..], &scored, &how, means].concat()));
        (fs::read_to_string(svg).unwrap(), serde_json::from_slice(&fs::read(json).unwrap()).unwrap())
    };
    let (svg, json) = swept("one", &["--threads", "1"]);
    assert_eq!(swept("two", &["--threads", "2"]), (svg.clone(), json.clone()));
    let points = json["points"].as_array().unwrap();
    let number = |point: &Json, key: &str| point[key].as_f64().unwrap();
    assert!(points.windows(2).all(|p| number(&p[0], "bytes") < number(&p[1], "bytes")));
    assert!(points.windows(2).all(|p| number(&p[0], "predicted") > number(&p[1], "predicted")));
    let measured: Vec<&Json> = points.iter().filter(|p| !p["measured"].is_null()).collect();
    assert_eq!(measured.len(), 4, "both ends are made, too");
    assert!(number(measured[0], "measured") > 3.0 * number(measured[1], "measured"));
    let types = json["file_types"]["priced"].as_array().unwrap();
    assert!(types.iter().all(|t| t["best"].is_null() || number(t, "best") <= number(t, "cost") * 1.0001));
    assert!(types.iter().any(|t| t["name"] == "Q3_K_M") && svg.contains("Q8_0"));
    let existing = scratch.path("one.svg");
    let before = fs::read(&existing).unwrap();
    let again = ["--prices", prices.to_str().unwrap(), "-o", existing.to_str().unwrap()];
    let output = run("sweep", &model, &again);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--force") && fs::read(&existing).unwrap() == before);
}
