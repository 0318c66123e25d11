//! A teacher's file.
use std::path::Path;

use kquant_formats::gguf::{Array, Metadata, Value};
use kquant_formats::targets::{Description, Rows, TargetsWriter};

/// Two chunks of three tokens, with two of four next tokens known.
pub fn description() -> Description {
    let mut vocabulary = Metadata::new();
    let texts = ["a", "b", "c", "d"].map(String::from).to_vec();
    vocabulary.set("tokenizer.ggml.tokens", Value::Array(Array::String(texts)));
    vocabulary.set("tokenizer.ggml.model", "gpt2".into());
    Description {
        teacher: "large".into(),
        vocabulary,
        logits: 5,
        text_sha256: "00ff".into(),
        context: 3,
        top: 2,
        chunks: 1..3,
        of: 4,
    }
}

pub const TOKENS: [u32; 6] = [0, 1, 2, 3, 2, 1];

/// -0.5, -2 and minus infinity as 16-bit floats.
pub const BITS: [u16; 3] = [0xb800, 0xc000, 0xfc00];

pub fn rows(first: u32) -> Rows {
    Rows {
        ids: vec![0, 1 + first, 1, 2, 2, 3],
        log_probabilities: vec![BITS[0], BITS[1], BITS[1], BITS[0], BITS[0], BITS[2]],
        rest: vec![0.25, 0.0, 1.0],
    }
}

pub fn write(path: &Path) {
    let mut writer = TargetsWriter::create(path, &description(), &TOKENS, true).unwrap();
    writer.append(&rows(0)).unwrap();
    writer.append(&rows(1)).unwrap();
    writer.finish().unwrap();
}
