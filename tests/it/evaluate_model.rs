//! `kquant perplexity` through the whole program.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};
use serde_json::Value as Json;

/// Enough chunks for three groups where memory is short.
const TEXT: [&str; 4] = ["--context", "64", "--chunks", "20"];

fn text() -> PathBuf {
    data("corpora/eval-small.txt")
}

/// Runs `kquant perplexity MODEL --text TEXT --context 64 --chunks 20 --quiet ...`.
fn perplexity(model: &Path, more: &[&str]) -> Output {
    let text = text();
    let args = ["perplexity", model.to_str().unwrap(), "--text", text.to_str().unwrap(), "--quiet"];
    kquant(args.iter().chain(&TEXT).chain(more))
}

/// The result of [`perplexity`], as JSON on standard output.
fn score(model: &Path, more: &[&str]) -> String {
    ok(perplexity(model, &[more, &["--json", "-"]].concat()))
}

fn parse(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn number(json: &Json, pointer: &str) -> f64 {
    json.pointer(pointer).and_then(Json::as_f64).unwrap()
}

/// The bytes that a refusal for want of memory asks for.
fn needed(output: &Output) -> String {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("give --memory at least"), "{message}");
    message.split(" need ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned()
}

#[test]
fn form_threads_and_memory_change_no_bit() {
    let scratch = Scratch::new("perplexity-bits");
    let folder = data("tiny-llama");
    let gguf = scratch.path("bf16.gguf");
    ok(quantize(&folder, &gguf, "BF16", &[]));
    let expected = score(&folder, &[]);
    let json = parse(&expected);
    assert_eq!(
        (&json["context"], &json["chunks"], &json["tokens_scored"]),
        (&64.into(), &20.into(), &620.into())
    );
    assert!(number(&json, "/perplexity/value") < 2048.0, "{json}");
    assert_eq!(score(&gguf, &[]), expected, "the GGUF has the same weights");

    let smallest = needed(&perplexity(&folder, &["--memory", "1K"]));
    let less = (smallest.parse::<u64>().unwrap() - 1).to_string();
    assert_eq!(needed(&perplexity(&folder, &["--memory", &less])), smallest);
    for means in [
        &["--threads", "1"][..],
        &["--threads", "3"],
        &["--memory", &smallest],
        &["--memory", &smallest, "--threads", "5"],
        &["--memory", "40M", "--threads", "2"],
    ] {
        assert_eq!(score(&folder, means), expected, "{means:?}");
    }
}

#[test]
fn a_model_is_its_own_equal_and_its_quantization_is_not() {
    let scratch = Scratch::new("perplexity-base");
    let folder = data("tiny-llama");
    let base = ["--base", folder.to_str().unwrap()];
    let json = parse(&score(&folder, &base));
    for (pointer, value) in [("/kl/mean", 0.0), ("/kl/max", 0.0), ("/same_top", 100.0), ("/ratio/value", 1.0)]
    {
        assert_eq!(number(&json, pointer), value, "{pointer}");
    }
    assert_eq!(json["perplexity"], json["base"]["perplexity"]);

    let small = scratch.path("q2_k.gguf");
    ok(quantize(&folder, &small, "Q2_K", &[]));
    let compared = score(&small, &base);
    let against_itself = parse(&compared);
    assert!(number(&against_itself, "/kl/mean") > 1e-4, "{compared}");
    assert!(number(&against_itself, "/same_top") < 100.0, "{compared}");
    assert_eq!(against_itself["base"]["perplexity"], json["perplexity"]);
    assert_eq!(against_itself["perplexity"], parse(&score(&small, &[]))["perplexity"]);
    let smallest = needed(&perplexity(&small, &[&base[..], &["--memory", "1K"]].concat()));
    assert_eq!(score(&small, &[&base[..], &["--memory", &smallest, "--threads", "1"]].concat()), compared);
}

#[test]
fn rounded_activations_cost_a_little_where_weights_are_quantized() {
    let scratch = Scratch::new("perplexity-rounded");
    let (folder, small, full) = (data("tiny-llama"), scratch.path("q8_0.gguf"), scratch.path("f32.gguf"));
    ok(quantize(&folder, &small, "Q8_0", &[]));
    ok(quantize(&folder, &full, "F32", &[]));
    let rounded = |model: &Path, more: &[&str]| {
        let base = ["--base", folder.to_str().unwrap(), "--round-activations"];
        score(model, &[&base[..], more].concat())
    };
    let exact = parse(&score(&small, &["--base", folder.to_str().unwrap()]));
    let ours = rounded(&small, &[]);
    let json = parse(&ours);
    assert!(number(&json, "/kl/mean") > number(&exact, "/kl/mean"), "{ours}");
    assert_eq!(json["base"]["perplexity"], exact["base"]["perplexity"]);
    assert_eq!(rounded(&small, &["--threads", "1", "--memory", "40M"]), ours);
    assert_eq!(number(&parse(&rounded(&full, &[])), "/kl/max"), 0.0);
}

#[test]
fn recorded_logits_are_the_base_within_their_sixteen_bits() {
    let scratch = Scratch::new("perplexity-logits");
    let (folder, logits, small) =
        (data("tiny-llama"), scratch.path("base.logits"), scratch.path("q2_k.gguf"));
    ok(quantize(&folder, &small, "Q2_K", &[]));
    let (folder_name, logits_name) = (folder.to_str().unwrap(), logits.to_str().unwrap());
    let plain = score(&folder, &[]);
    assert_eq!(score(&folder, &["--save-logits", logits_name]), plain, "recording changes no result");
    let refusal = perplexity(&folder, &["--save-logits", logits_name]);
    assert_eq!(refusal.status.code(), Some(2));
    assert!(stderr(&refusal).contains("--force"), "{}", stderr(&refusal));
    let recorded = fs::read(&logits).unwrap();
    ok(perplexity(&folder, &["--save-logits", logits_name, "--force", "--threads", "1"]));
    assert!(fs::read(&logits).unwrap() == recorded, "a second recording is the same file");

    let exact = parse(&score(&small, &["--base", folder_name]));
    let with_text = score(&small, &["--base", logits_name]);
    let close = parse(&with_text);
    assert_eq!(close["perplexity"], exact["perplexity"]);
    for (pointer, tolerance) in [("/kl/mean", 1e-5), ("/base/perplexity/value", 0.05), ("/same_top", 0.5)] {
        let (a, b) = (number(&close, pointer), number(&exact, pointer));
        assert!((a - b).abs() <= tolerance, "{pointer}: {a} of the file, {b} of the model");
    }

    // The file brings its own text and context.
    let alone = |more: &[&str]| {
        let args = ["perplexity", small.to_str().unwrap(), "--base", logits_name, "--quiet", "--json", "-"];
        kquant(args.iter().chain(more))
    };
    assert_eq!(ok(alone(&[])), with_text);
    assert_eq!(ok(alone(&["--text", text().to_str().unwrap()])), with_text);
    assert_eq!(parse(&ok(alone(&["--chunks", "3"])))["chunks"], 3);
    for (case, options, fragment) in [
        ("context", ["--context", "32"], "base.logits: made with --context 64, not 32"),
        (
            "text",
            ["--text", data("corpora/calibration-small.txt").to_str().unwrap()],
            "made of another text than",
        ),
    ] {
        refused(case, &alone(&options), fragment, &scratch.path("nothing"));
    }
}

#[test]
fn recorded_numbers_that_are_no_log_probabilities_are_refused() {
    const ROW: usize = 8 + 2 * 2048;
    let scratch = Scratch::new("perplexity-impossible");
    let (folder, logits) = (data("tiny-llama"), scratch.path("base.logits"));
    let name = logits.to_str().unwrap();
    ok(perplexity(&folder, &["--save-logits", name]));
    let good = fs::read(&logits).unwrap();
    // Magic, three numbers, 20 chunks of 64 tokens.
    let first = 20 + 4 * 20 * 64;
    let likely = [0xff; ROW - 8];
    for (at, bytes, fragments) in [
        (
            4,
            f32::MIN.to_le_bytes().as_slice(),
            ["base.logits at byte 5140: row 0 of chunk 0 gives its likeliest token, ", "-3402"],
        ),
        (4, &f32::MAX.to_le_bytes(), ["base.logits at byte 5140: row 0 of chunk 0 gives token ", "above 0"]),
        (0, &1.0f32.to_le_bytes(), ["base.logits at byte 5140: row 0 of chunk 0 has scale 1", "65535"]),
        (8, &likely, ["base.logits: chunk 0, position 32", "(the likeliest token is 0)"]),
    ] {
        let mut damaged = good.clone();
        damaged[first + at..first + at + bytes.len()].copy_from_slice(bytes);
        fs::write(&logits, damaged).unwrap();
        let output = kquant(["perplexity", folder.to_str().unwrap(), "--base", name, "--quiet"]);
        for fragment in fragments {
            refused("impossible", &output, fragment, &scratch.path("nothing"));
        }
    }
}

#[test]
fn the_report_goes_where_it_is_asked_to() {
    let scratch = Scratch::new("perplexity-report");
    let (folder, file) = (data("tiny-llama"), scratch.path("result.json"));
    let shown = ok(perplexity(&folder, &["--json", file.to_str().unwrap()]));
    assert!(shown.starts_with("tokens scored          620 in 20 chunks of 64\nperplexity "), "{shown}");
    assert_eq!(fs::read_to_string(&file).unwrap(), score(&folder, &[]));
}

/// Case, model, options, what the message must say.
type Case<'a> = (&'a str, &'a Path, &'a [&'a str], &'a str);

#[test]
fn what_cannot_be_scored_is_refused() {
    let scratch = Scratch::new("perplexity-refused");
    let write = |name: &str, bytes: &[u8]| {
        let path = scratch.path(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (short, latin) = (write("short.txt", b"Once upon a time"), write("latin.txt", b"caf\xe9"));
    let (folder, micro, logits) = (data("tiny-llama"), scratch.path("micro"), scratch.path("tiny.logits"));
    crate::support::write_folder(&micro, &crate::support::micro_llama());
    let (folder_name, logits_name) = (folder.to_str().unwrap(), logits.to_str().unwrap());
    ok(perplexity(&folder, &["--save-logits", logits_name]));
    let text = text();
    let text = text.to_str().unwrap();
    let out = scratch.path("never");
    let out_name = out.to_str().unwrap();
    let cases: [Case; 12] = [
        ("no text", &folder, &[], "give --text FILE"),
        ("missing text", &folder, &["--text", out_name], "never: cannot read: "),
        ("not UTF-8", &folder, &["--text", &latin], "latin.txt: the text is not UTF-8"),
        ("too short", &folder, &["--text", &short, "--context", "64"], "needs at least 128"),
        ("long context", &folder, &["--text", text, "--context", "257"], "more than the model's 256"),
        ("no context", &folder, &["--text", text, "--context", "2"], "use at least 3 (--context)"),
        ("no chunks", &folder, &["--text", text, "--chunks", "0"], "use at least 1 (--chunks)"),
        ("memory", &folder, &["--text", text, "--memory", "1M"], "give --memory at least"),
        ("other base", &micro, &["--text", text, "--base", folder_name], "have different vocabularies"),
        (
            "other logits",
            &micro,
            &["--base", logits_name],
            "made with a vocabulary of 2048 tokens, the model has 320",
        ),
        ("missing model", &out, &["--text", text], "never"),
        ("base is a text", &folder, &["--text", text, "--base", &short], "short.txt"),
    ];
    for (case, model, options, fragment) in cases {
        let args = ["perplexity", model.to_str().unwrap(), "--save-logits", out_name, "--quiet"];
        refused(case, &kquant(args.iter().chain(options)), fragment, &out);
    }
}
