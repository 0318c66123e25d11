//! `--override-kv` through the whole program: values take the type of their key, or are refused.

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};
use kquant::checkpoint::type_layout;
use kquant_formats::gguf::{Gguf, Value};

#[test]
fn values_take_the_type_of_their_key() {
    let scratch = Scratch::new("overrides-types");
    let (out, again) = (scratch.path("out.gguf"), scratch.path("again.gguf"));
    let keys = [
        ("llama.rope.freq_base=int:500000", "llama.rope.freq_base", Value::F32(500_000.0)),
        ("tokenizer.ggml.add_bos_token=int:1", "tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("llama.context_length=float:512", "llama.context_length", Value::U32(512)),
        ("general.name=str:7", "general.name", Value::from("7")),
    ];
    let more: Vec<&str> = keys.iter().flat_map(|(given, ..)| ["--override-kv", given]).collect();
    // A checkpoint, whose keys are made, and a GGUF, which has them.
    for (source, out) in [(&data("tiny-llama"), &out), (&out, &again)] {
        let run = quantize(source, out, "F16", &more);
        assert!(!stderr(&run).contains("override-kv"), "{}", stderr(&run));
        ok(run);
        let gguf = Gguf::open(out, type_layout).unwrap();
        for (given, key, value) in &keys {
            assert_eq!(gguf.metadata().get(key), Some(value), "{given}");
        }
    }
    let text = data("corpora/eval-small.txt");
    let args = [
        "perplexity",
        out.to_str().unwrap(),
        "--text",
        text.to_str().unwrap(),
        "--context",
        "64",
        "--chunks",
        "1",
    ];
    ok(kquant(args));
}

#[test]
fn values_that_do_not_fit_are_refused_before_the_work() {
    let scratch = Scratch::new("overrides-refused");
    let out = scratch.path("out.gguf");
    for (given, fragment) in [
        ("llama.rope.freq_base=bool:true", "a number of 32 bits"),
        ("llama.rope.freq_base=str:high", "give llama.rope.freq_base=float:VALUE"),
        ("llama.context_length=int:-1", "an unsigned integer of 32 bits"),
        ("llama.context_length=int:4294967296", "an unsigned integer of 32 bits"),
        ("llama.context_length=float:0.5", "give llama.context_length=int:VALUE"),
        ("tokenizer.ggml.add_bos_token=int:2", "true or false"),
        ("tokenizer.ggml.tokens=str:a", "lists cannot be set"),
        ("general.architecture=int:1", "a text"),
        ("llama.rope.scaling.factor=str:two", "the value that llama.cpp reads is a number"),
        ("llama.rope.freq_base=float:1e39", "no number that 32 bits hold"),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let run =
                quantize(&data("tiny-llama"), &out, "Q8_0", &[&["--override-kv", given], more].concat());
            refused(given, &run, fragment, &out);
        }
    }
}

#[test]
fn new_keys_are_told_of_with_the_nearest_name() {
    let scratch = Scratch::new("overrides-new");
    let out = scratch.path("out.gguf");
    for (given, fragment, value) in [
        ("llama.rope.scaling.factor=int:2", "which the model does not have", Value::F32(2.0)),
        ("llama.rope.freqbase=float:2", "did you mean `llama.rope.freq_base`?", Value::F32(2.0)),
        ("qwen2.context_length=int:9", "did you mean `llama.context_length`?", Value::U32(9)),
        ("my.key=bool:true", "which neither the model nor llama.cpp knows\n", Value::Bool(true)),
    ] {
        let run = quantize(&data("tiny-llama"), &out, "Q8_0", &["--force", "--override-kv", given]);
        let message = stderr(&run);
        assert!(
            message.contains("note: --override-kv adds the key") && message.contains(fragment),
            "{message}"
        );
        ok(run);
        let key = given.split('=').next().unwrap();
        assert_eq!(Gguf::open(&out, type_layout).unwrap().metadata().get(key), Some(&value), "{given}");
    }
}
