//! Memory is bounded by what is asked for, not by what a file claims or how long a text is.
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Scratch, data, micro_config, micro_llama, ok, write_folder};

/// Runs the binary with no more than a gigabyte of address space, on two threads: each takes some of it for itself.
fn within_a_gigabyte(args: &[&str]) -> Output {
    let run = Command::new("sh")
        .args(["-c", "ulimit -v 1000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_kquant")])
        .args(args)
        .args(["--threads", "2"])
        .output();
    run.unwrap()
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn generation_needs_no_memory_for_a_context_that_is_not_used() {
    let scratch = Scratch::new("bounded-context");
    let (small, huge) = (scratch.path("small"), scratch.path("huge"));
    for (folder, context) in [(&small, 128u64), (&huge, u64::from(u32::MAX))] {
        write_folder(folder, &micro_llama());
        let mut config = micro_config();
        config["max_position_embeddings"] = context.into();
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }
    let text = |model: &Path, prompt: &str| {
        within_a_gigabyte(&["generate", name(model), "--prompt", prompt, "-n", "4", "--memory", "64M"])
    };
    let [long, short] = [&huge, &small].map(|model| text(model, "hi"));
    assert!(
        long.status.success() && long.stdout == short.stdout,
        "{}",
        String::from_utf8_lossy(&long.stderr)
    );
    let refused = text(&small, &"a long text ".repeat(50));
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn texts_are_cut_in_a_few_bytes_for_each_of_theirs() {
    let scratch = Scratch::new("bounded-text");
    let text = scratch.path("text.txt");
    fs::write(&text, "hello world ".repeat(1_700_000)).unwrap();
    let args = ["-c", "32", "--chunks", "1", "--memory", "256M", "--text", name(&text)];
    for model in [data("tiny-llama"), data("archs/gpt2")] {
        ok(within_a_gigabyte(&[&["perplexity", name(&model)], &args[..]].concat()));
    }
}

#[test]
fn aliases_in_a_model_card_stand_for_no_more_than_a_megabyte() {
    let scratch = Scratch::new("bounded-card");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    write_folder(&model, &micro_llama());
    let card = format!("---\nlicense: &x {}\ntags:\n{}---\n", "a".repeat(100_000), "- *x\n".repeat(100_000));
    fs::write(model.join("README.md"), card).unwrap();
    let run = within_a_gigabyte(&["quantize", name(&model), "-o", name(&out), "--type", "Q8_0"]);
    assert!(String::from_utf8_lossy(&run.stderr).contains("README.md: the front matter's aliases"));
    ok(run);
}
