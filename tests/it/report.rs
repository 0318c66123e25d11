//! The page to look at: `kquant compare`, and `--html` of other commands.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::malformed::gguf::{gguf_bytes, metadata};
use crate::support::{Scratch, data, kquant, noise, ok, quantize, refused, stderr};

/// How texts are cut in all runs.
const CUT: [&str; 5] = ["--context", "64", "--chunks", "12", "-q"];

fn path(name: &str) -> String {
    data(name).to_str().unwrap().to_owned()
}

/// The small model quantized to `kind`.
fn quantized(scratch: &Scratch, kind: &str) -> String {
    let out = scratch.path(&format!("{kind}.gguf"));
    ok(quantize(&data("tiny-llama"), &out, kind, &["-q"]));
    out.to_str().unwrap().to_owned()
}

/// Runs `kquant ARGS... --html PAGE`, which must succeed; returns the page.
fn page(scratch: &Scratch, args: &[&str]) -> String {
    let page = scratch.path("page.html");
    ok(kquant([args, &["--html", page.to_str().unwrap(), "--force"]].concat()));
    fs::read_to_string(page).unwrap()
}

/// Headings of the sections.
fn anchors(page: &str) -> Vec<&str> {
    page.split("<section id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// A number with four significant digits, as pages show it.
fn figure(x: f64) -> String {
    if x == 0.0 {
        "0".into()
    } else if (1e-4..1e6).contains(&x) {
        let digits = (3 - x.log10().floor() as i32).clamp(0, 8) as usize;
        format!("{x:.digits$}")
    } else {
        format!("{x:.3e}")
    }
}

/// The page without what says how it was made.
fn without_command(page: &str) -> &str {
    page.split("<footer>").next().unwrap()
}

#[test]
fn every_section_is_there_and_shows_the_figures_of_json() {
    let scratch = Scratch::new("report");
    let (base, model, text) =
        (path("tiny-llama"), quantized(&scratch, "Q3_K_M"), path("corpora/eval-small.txt"));
    let html = scratch.path("page.html");
    let args = ["compare", &base, &model, "--text", &text, "-o", html.to_str().unwrap(), "--json"];
    let json: Json = serde_json::from_str(&ok(kquant([&args[..], &CUT].concat()))).unwrap();
    let page = fs::read_to_string(&html).unwrap();
    assert_eq!(anchors(&page), ["made", "size", "types", "errors", "text-1", "samples"]);
    for side in ["base", "model"] {
        let file = &json[side]["files"][0];
        assert!(page.contains(file["sha256"].as_str().unwrap()), "{side}");
        assert_eq!(json[side]["bytes"].as_u64().unwrap(), file["bytes"].as_u64().unwrap(), "{side}");
    }
    assert_eq!(json["model"]["bytes"].as_u64().unwrap(), fs::metadata(&model).unwrap().len());
    let tensors = json["tensors"].as_array().unwrap();
    assert!(tensors.len() == 20 && tensors.iter().any(|t| t["relative_squared_error"] != 0.0));
    for tensor in tensors {
        let error = figure(tensor["relative_squared_error"].as_f64().unwrap());
        assert!(
            page.contains(tensor["name"].as_str().unwrap()) && page.contains(&error),
            "{tensor}: {error}"
        );
        // Three bits and more leave less than a tenth, and norms stay as they are.
        assert!(tensor["relative_squared_error"].as_f64().unwrap() < 0.1, "{tensor}");
        assert_eq!(tensor["to"] == "F32", tensor["relative_squared_error"] == 0.0, "{tensor}");
    }
    for row in json["types"]["layers"].as_array().unwrap() {
        for kind in row["types"].as_array().unwrap() {
            assert!(page.contains(&format!(">{}</span></td>", kind.as_str().unwrap())), "{kind}");
        }
    }
    let found = &json["texts"][0];
    let value = |at: &str| found.pointer(at).unwrap().as_f64().unwrap();
    for at in
        ["/kl/mean", "/kl/median", "/kl/p99_9", "/kl/max", "/perplexity/value", "/base/perplexity/value"]
    {
        assert!(page.contains(&format!(">{}</td>", figure(value(at)))), "{at}: {}", value(at));
    }
    assert!(page.contains(&format!("{:.2} %", value("/same_top"))));
    let passages = found["passages"].as_array().unwrap();
    assert!(passages.len() == 5 && passages.windows(2).all(|p| p[0]["kl"].as_f64() >= p[1]["kl"].as_f64()));
    for passage in passages {
        assert!(page.contains(&format!("{} nats per token", figure(passage["kl"].as_f64().unwrap()))));
    }
    let samples = json["samples"].as_array().unwrap();
    assert!(samples.len() == 3 && samples.iter().all(|s| s["tokens"].as_u64().unwrap() > 8), "{samples:?}");
}

#[test]
fn divergence_is_that_of_kquant_perplexity() {
    let scratch = Scratch::new("report-perplexity");
    let (base, model, text) =
        (path("tiny-llama"), quantized(&scratch, "Q4_0"), path("corpora/eval-small.txt"));
    let args = ["compare", &base, &model, "--text", &text, "--json", "--samples", "0"];
    let compared: Json = serde_json::from_str(&ok(kquant([&args[..], &CUT].concat()))).unwrap();
    let args = ["perplexity", &model, "--base", &base, "--text", &text, "--json", "-"];
    let scored: Json = serde_json::from_str(&ok(kquant([&args[..], &CUT].concat()))).unwrap();
    for (key, value) in scored.as_object().unwrap() {
        assert_eq!(&compared["texts"][0][key], value, "{key}");
    }
    assert!(compared.get("samples").is_none());
    // The mean over positions is the mean over tokens: every position of a chunk is scored once.
    let spans = compared["texts"][0]["positions"].as_array().unwrap();
    let width = |s: &Json| (s["last"].as_u64().unwrap() - s["first"].as_u64().unwrap() + 1) as f64;
    let sum: f64 = spans.iter().map(|s| s["kl"].as_f64().unwrap() * width(s)).sum();
    let mean = sum / spans.iter().map(width).sum::<f64>();
    assert!((mean - scored["kl"]["mean"].as_f64().unwrap()).abs() < 1e-9, "{mean}");
}

#[test]
fn the_same_inputs_give_the_same_page() {
    let scratch = Scratch::new("report-same");
    let (base, model, text) =
        (path("tiny-llama"), quantized(&scratch, "Q4_K_M"), path("corpora/eval-small.txt"));
    let args = [&["compare", &base, &model, "--text", &text][..], &CUT].concat();
    let first = page(&scratch, &args);
    assert!(page(&scratch, &args) == first);
    let means = ["--threads", "1", "--memory", "64M"];
    let other = page(&scratch, &[&args[..], &means].concat());
    assert!(without_command(&other) == without_command(&first) && other != first);
    assert!(!first.contains("<script") && !first.contains("http-equiv=\"refresh\""));
    // Nothing is loaded from anywhere.
    assert!(
        !first.contains("src=")
            && !first.contains("url(")
            && first.matches("http").count()
                == first.matches("http://www.w3.org/2000/svg").count() + first.matches("http-equiv").count()
    );
}

#[test]
fn a_model_beside_itself_has_no_errors() {
    let scratch = Scratch::new("report-self");
    let (model, text) = (quantized(&scratch, "Q8_0"), path("corpora/eval-small.txt"));
    let args = [&["compare", &model, &model, "--text", &text][..], &CUT].concat();
    let html = page(&scratch, &args);
    assert!(html.contains("All tensors are the same.") && html.contains("No position diverges."));
    let printed = ok(kquant(&args));
    assert!(printed.contains("all 20 tensors have the same weights"), "{printed}");
    assert!(
        printed.contains("KL divergence 0.000000") && printed.contains("same likeliest token 100.00 %"),
        "{printed}"
    );
}

#[test]
fn models_that_do_not_belong_together_are_refused() {
    let scratch = Scratch::new("report-refused");
    let (tiny, out) = (path("tiny-llama"), scratch.path("page.html"));
    let narrow = scratch.path("narrow.gguf");
    let fewer = scratch.path("fewer.gguf");
    let text = path("corpora/calibration-small.txt");
    for (to, how) in [(&narrow, &["--ffn", "25%", "--score", "wanda"][..]), (&fewer, &["--vocab", "1500"])] {
        let args = ["prune", &tiny, "-o", to.to_str().unwrap(), "--text", &text];
        ok(kquant([&args[..], how, &CUT].concat()));
    }
    for (other, fragment) in [
        (
            narrow.to_str().unwrap().to_owned(),
            "ffn_down.weight\" is 768 x 256 in the first and 576 x 256 in the second",
        ),
        (fewer.to_str().unwrap().to_owned(), "in the first and"),
        (path("archs/gpt2"), "is of the architecture \"llama\" and the second of \"gpt2\""),
    ] {
        let run = kquant(["compare", &tiny, &other, "-o", out.to_str().unwrap()]);
        refused(&other, &run, fragment, &out);
        assert!(stderr(&run).contains("give the model that the second was made of"), "{}", stderr(&run));
    }
}

#[test]
fn a_page_replaces_nothing_unasked_and_no_input() {
    let scratch = Scratch::new("report-outputs");
    let (tiny, model) = (path("tiny-llama"), quantized(&scratch, "Q8_0"));
    let before = fs::read(&model).unwrap();
    let run = kquant(["compare", &tiny, &model, "-o", &model, "--force"]);
    assert!(
        run.status.code() == Some(2) && stderr(&run).contains("is part of the input"),
        "{}",
        stderr(&run)
    );
    let out = scratch.path("page.html");
    fs::write(&out, "mine").unwrap();
    let run = kquant(["compare", &tiny, &model, "-o", out.to_str().unwrap()]);
    assert!(run.status.code() == Some(2) && stderr(&run).contains("exists"), "{}", stderr(&run));
    assert!(fs::read(&model).unwrap() == before && fs::read(&out).unwrap() == b"mine");
}

#[test]
fn names_and_texts_become_no_markup() {
    let scratch = Scratch::new("report-names");
    let evil = "<script>x</script>y";
    let named = |file: &str, change: bool| -> PathBuf {
        let mut bytes = gguf_bytes(&metadata());
        let mut put = |from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
            bytes[at..at + to.len()].copy_from_slice(to);
        };
        put(b"blk.0.ffn_up.weight", evil.as_bytes());
        put(b"unheard-of", b"<script>-a");
        if change {
            put(&noise(9, 64)[5].to_le_bytes(), &7f32.to_le_bytes());
        }
        let path = scratch.path(file);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (base, model) = (named("a<script>.gguf", false), named("b'\"<script>.gguf", true));
    let html = page(&scratch, &["compare", base.to_str().unwrap(), model.to_str().unwrap()]);
    assert!(!html.contains("<script") && !html.contains("</script"), "{html}");
    assert!(
        html.matches("&lt;script&gt;x&lt;/script&gt;y").count() >= 2 && html.contains("&lt;script&gt;-a"),
        "{html}"
    );
    let eval = fs::read_to_string(data("corpora/eval-small.txt")).unwrap();
    let text = scratch.path("<script>.txt");
    fs::write(&text, eval.replace(' ', " <script>alert('1')</script> ")).unwrap();
    let (tiny, model) = (path("tiny-llama"), quantized(&scratch, "Q3_K_M"));
    let args = ["compare", &tiny, &model, "--text", text.to_str().unwrap()];
    let html = page(&scratch, &[&args[..], &CUT].concat());
    assert!(!html.contains("<script") && !html.contains("</script"));
    assert!(html.matches("&lt;script&gt;").count() > 10, "the text is shown");
}

#[test]
fn quantize_and_perplexity_write_the_page_of_their_run() {
    let scratch = Scratch::new("report-quantize");
    let (tiny, text, out) = (path("tiny-llama"), path("corpora/eval-small.txt"), scratch.path("out.gguf"));
    let out = out.to_str().unwrap();
    let args = ["quantize", &tiny, "-o", out, "--type", "Q4_0"];
    assert_eq!(anchors(&page(&scratch, &[&args[..], &["-q"]].concat())), ["made", "types", "errors"]);
    let judged = page(&scratch, &[&args[..], &["--verify", &text], &CUT].concat());
    let all = ["made", "size", "types", "errors", "text-1", "samples"];
    assert_eq!(anchors(&judged), all);
    let scored = page(&scratch, &[&["perplexity", out, "--base", &tiny, "--text", &text][..], &CUT].concat());
    assert!(without_command(&scored) == without_command(&judged), "one comparison, one page");
    let compared = page(&scratch, &[&["compare", &tiny, out, "--text", &text][..], &CUT].concat());
    assert!(without_command(&compared) == without_command(&judged));
    let alone = page(&scratch, &[&["perplexity", out, "--text", &text][..], &CUT].concat());
    assert_eq!(anchors(&alone), ["made", "types", "text-1"]);
    assert!(alone.contains("Perplexity of out.gguf") && !alone.contains("KL divergence"));
    let run = kquant(["quantize", &tiny, "--dry-run", "--type", "Q4_0", "--html", "x.html"]);
    refused("dry run", &run, "cannot be used with", Path::new("x.html"));
}

#[test]
fn prune_and_distill_write_what_became_of_the_model() {
    let scratch = Scratch::new("report-prune");
    let (tiny, text) = (path("tiny-llama"), path("corpora/calibration-small.txt"));
    let (narrow, fewer) = (scratch.path("narrow.gguf"), scratch.path("fewer.gguf"));
    let (narrow, fewer) = (narrow.to_str().unwrap(), fewer.to_str().unwrap());
    let cut = [&["--text", &text][..], &CUT].concat();
    let pruned = page(
        &scratch,
        &[&["prune", &tiny, "-o", narrow, "--ffn", "512", "--score", "wanda", "--type", "F32"][..], &cut]
            .concat(),
    );
    assert_eq!(anchors(&pruned), ["made", "size", "types", "text-1", "samples"]);
    // With fewer tokens, both do not write alike.
    let pruned = page(&scratch, &[&["prune", &tiny, "-o", fewer, "--vocab", "1500"][..], &cut].concat());
    assert_eq!(anchors(&pruned), ["made", "size", "types", "text-1"]);
    let trained = scratch.path("trained.gguf");
    let paths = ["distill", narrow, "--teacher", &tiny, "-o", trained.to_str().unwrap()];
    let how = ["--optimizer", "adamw", "--rate", "1e-4", "--tokens", "8k", "--batch", "16"];
    let text = ["--context", "64", "--chunks", "150", "--text", &text, "-q"];
    let trained = page(&scratch, &[&paths[..], &how, &text].concat());
    assert_eq!(anchors(&trained), ["made", "course", "size", "types", "text-1", "samples"]);
    assert!(trained.contains("divergence from the teacher"));
}

#[test]
fn sweep_draws_its_curve() {
    let scratch = Scratch::new("report-sweep");
    let (tiny, text, prices) =
        (path("tiny-llama"), path("corpora/calibration-small.txt"), scratch.path("prices.json"));
    let (prices, json) = (prices.to_str().unwrap(), scratch.path("curve.json"));
    let menu = ["--menu", "Q3_K,Q4_0,Q8_0"];
    ok(kquant([&["prices", &tiny, "-o", prices, "--calibrate", &text][..], &menu, &CUT].concat()));
    let args = ["sweep", &tiny, "--prices", prices, "--points", "5", "--json", json.to_str().unwrap(), "-q"];
    let html = page(&scratch, &[&args[..], &menu].concat());
    assert_eq!(anchors(&html), ["made", "size", "points", "file-types"]);
    let curve: Json = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    for point in curve["points"].as_array().unwrap() {
        assert!(html.contains(&format!("<td class=\"number\">{}</td>", point["bytes"])), "{point}");
    }
    assert!(html.contains("llama-quantize&#39;s file types") && html.matches("<svg ").count() == 2);
}
