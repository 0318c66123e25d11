//! Options, importance matrices, existing files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::malformed::check;
use crate::malformed::gguf::{UP, gguf_bytes, metadata};
use crate::support::*;

fn micro(folder: &Path) -> PathBuf {
    write_folder(folder, &micro_llama());
    folder.to_owned()
}

#[test]
fn options() {
    check(
        "malformed-options",
        &[
            ("model that does not exist", |f| f.join("nowhere"), &[], "nowhere"),
            ("empty folder", |f| f.to_owned(), &[], "safetensors"),
            ("pattern that matches nothing", micro, &["--tensor-type", "ffn_sideways=Q8_0"], "ffn_sideways"),
            ("pattern no regular expression", micro, &["--tensor-type", "ffn_(=Q8_0"], "ffn_("),
            ("override without type", micro, &["--tensor-type", "ffn_up"], "ffn_up"),
            ("unknown block type", micro, &["--output-tensor-type", "Q7_K"], "Q7_K"),
            ("block type that cannot be written", micro, &["--output-tensor-type", "Q8_1"], "Q8_1"),
            ("missing file of overrides", micro, &["--tensor-type-file", "no/such/file"], "no/such/file"),
            ("missing importance matrix", micro, &["--imatrix", "no/such/imatrix"], "no/such/imatrix"),
            ("unknown encoder", micro, &["--encoder", "magic"], "guarded"),
            ("memory too small for a row", micro, &["--memory", "1K"], "--memory"),
            ("manifest in a folder that is missing", micro, &["--manifest", "no/such/m.json"], "m.json"),
        ],
    );
    let scratch = Scratch::new("malformed-types");
    let model = micro(&scratch.path("in"));
    let out = scratch.path("out.gguf");
    for (kind, fragment) in [("Q4_K_XXL", "Q4_K_M"), ("IQ2_XS", "--imatrix"), ("Q2_K_S", "--imatrix")] {
        refused(kind, &quantize(&model, &out, kind, &[]), fragment, &out);
    }
    let nowhere = scratch.path("no/such/folder/out.gguf");
    refused("missing folder", &quantize(&model, &nowhere, "Q8_0", &[]), "no/such/folder", &nowhere);
}

#[test]
fn importance_matrices() {
    let scratch = Scratch::new("malformed-imatrix");
    let model = micro(&scratch.path("in"));
    let out = scratch.path("out.gguf");
    let entry = |name: &str, values: &[f32]| {
        let mut bytes = 1i32.to_le_bytes().to_vec();
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1i32.to_le_bytes());
        bytes.extend((values.len() as i32).to_le_bytes());
        values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
        bytes
    };
    let good = entry(UP, &[1.0; 256]);
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("cut", good[..good.len() - 3].to_vec(), "imatrix.dat"),
        ("empty", Vec::new(), "imatrix.dat"),
        ("other model", entry(UP, &[1.0; 128]), "128"),
        ("NaN", entry(UP, &[f32::NAN; 256]), UP),
        ("negative", entry(UP, &[-1.0; 256]), UP),
        ("2^31 values", [&good[..12 + UP.len()], &[0xff, 0xff, 0xff, 0x7f]].concat(), "imatrix.dat"),
    ];
    let path = scratch.path("imatrix.dat");
    for (case, bytes, fragment) in cases {
        fs::write(&path, bytes).unwrap();
        refused(
            case,
            &quantize(&model, &out, "Q4_K_M", &["--imatrix", path.to_str().unwrap()]),
            fragment,
            &out,
        );
    }
}

#[test]
fn inputs_and_existing_outputs_are_kept() {
    let scratch = Scratch::new("malformed-existing");
    let model = scratch.path("model.gguf");
    fs::write(&model, gguf_bytes(&metadata())).unwrap();
    let before = fs::read(&model).unwrap();
    let same = quantize(&model, &model, "Q8_0", &["--force"]);
    assert_eq!(same.status.code(), Some(2));
    assert!(stderr(&same).contains("part of the input"));
    let other = scratch.path("other.gguf");
    fs::write(&other, "precious").unwrap();
    let kept = quantize(&model, &other, "Q8_0", &[]);
    assert_eq!(kept.status.code(), Some(2));
    assert!(stderr(&kept).contains("--force"), "{}", stderr(&kept));
    assert_eq!((fs::read(&model).unwrap(), fs::read(&other).unwrap()), (before, b"precious".to_vec()));
    assert!(quantize(&model, &other, "Q8_0", &["--force"]).status.success());
    assert!(data("tiny-llama").is_dir());
}
