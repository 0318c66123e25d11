//! `kquant prune` through the whole program.
use std::fs;

use crate::support::{Scratch, data, kquant, ok, stderr};

#[test]
fn trimmed_models_run_and_read_every_text() {
    let scratch = Scratch::new("prune");
    let (text, held_out) = (data("corpora/calibration-small.txt"), data("corpora/eval-small.txt"));
    let short = scratch.path("short.txt");
    fs::write(&short, fs::read_to_string(&text).unwrap().chars().take(1500).collect::<String>()).unwrap();
    let strange = scratch.path("strange.txt");
    fs::write(&strange, "if (x != 0) { y[i] += 2; } 😀🎉 你好，世界 ".repeat(20)).unwrap();
    {
        let (model, out) = (data("tiny-llama"), scratch.path("out.gguf"));
        let list = scratch.path("list.txt");
        fs::write(&list, "#5\n").unwrap();
        let args = ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--json", "--force", "-q"];
        let more = ["--keep-tokens", list.to_str().unwrap(), "--text", short.to_str().unwrap()];
        let last = ["--held-out", held_out.to_str().unwrap(), "--context", "32"];
        let told = ok(kquant([args.as_slice(), &more, &last].concat()));
        let report: serde_json::Value = serde_json::from_str(&told).unwrap();
        let number = |key: &str| report[key].as_f64().unwrap();
        assert!(number("tokens") < number("tokens_before"), "{told}");
        assert!(number("of_text") <= number("tokens") && number("kl") > 0.0, "{told}");
        assert_eq!(number("bytes"), fs::metadata(&out).unwrap().len() as f64);
        // Texts of what was never seen are still read.
        for path in [&short, &strange] {
            let args = ["perplexity", out.to_str().unwrap(), "--text", path.to_str().unwrap(), "-q"];
            ok(kquant([args.as_slice(), &["--context", "32", "--chunks", "2"]].concat()));
        }
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let scratch = Scratch::new("prune-refused");
    let (model, out, text) =
        (data("tiny-llama"), scratch.path("out.gguf"), data("corpora/calibration-small.txt"));
    let args = ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--text"];
    for (more, why) in [
        (["--vocab", "99999999"], "ask for fewer"),
        (["--vocab", "1"], "tokens must be kept"),
        (["--vocab-kl", "0"], "above 0"),
    ] {
        let output = kquant([args.as_slice(), &[text.to_str().unwrap()], &more].concat());
        assert!(!output.status.success() && stderr(&output).contains(why), "{more:?}: {}", stderr(&output));
        assert!(!out.exists());
    }
}
