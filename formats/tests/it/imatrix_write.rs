//! Importance matrices that are read and written back as llama-imatrix does it.
use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::imatrix::{Entry, Imatrix};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Returns an output path at which no file exists.
fn out(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

fn small(values: [f32; 2]) -> Imatrix {
    let entry = Entry { columns: 2, matrices: 1, sums: values.to_vec(), counts: vec![8.0] };
    Imatrix {
        entries: [("blk.0.ffn_up.weight".to_owned(), entry)].into(),
        datasets: Vec::new(),
        chunk_count: Some(2),
        chunk_size: Some(4),
    }
}

#[test]
fn gguf_files_come_out_as_they_went_in() {
    for name in ["llama-5m.imatrix.gguf", "llama-5m.merged.gguf", "experts.imatrix.gguf"] {
        let out = out(name);
        Imatrix::open(&data(name)).unwrap().write_gguf(&out, false).unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(data(name)).unwrap(), "{name}");
    }
}

#[test]
fn legacy_files_come_out_as_they_went_in() {
    for name in ["llama-5m.imatrix.dat", "llama-5m.from-gguf.dat", "experts.imatrix.dat"] {
        let out = out(name);
        Imatrix::open(&data(name)).unwrap().write_dat(&out, false).unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(data(name)).unwrap(), "{name}");
    }
}

/// The file includes experts that were never used and entries without counts.
#[test]
fn the_legacy_form_of_a_gguf_is_that_of_llama_imatrix() {
    for (from, to) in
        [("llama-5m.imatrix.gguf", "llama-5m.from-gguf.dat"), ("experts.imatrix.gguf", "experts.imatrix.dat")]
    {
        let out = out(&format!("converted-{to}"));
        Imatrix::open(&data(from)).unwrap().write_dat(&out, false).unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(data(to)).unwrap(), "{from}");
    }
}

#[test]
fn a_legacy_file_becomes_a_gguf_only_with_its_chunk_size() {
    let mut matrix = Imatrix::open(&data("llama-5m.imatrix.dat")).unwrap();
    let out = out("sized.gguf");
    let error = matrix.write_gguf(&out, false).unwrap_err().to_string();
    assert!(error.contains("tokens per chunk"), "{error}");
    assert!(!out.exists());
    matrix.chunk_size = Some(1);
    matrix.write_gguf(&out, false).unwrap();
    assert_eq!(Imatrix::open(&out).unwrap(), matrix);
}

#[test]
fn an_unknown_chunk_count_is_told_by_the_counts() {
    let out = out("uncounted.gguf");
    let matrix = Imatrix { chunk_count: None, ..small([1.0, 2.0]) };
    matrix.write_gguf(&out, false).unwrap();
    assert_eq!(Imatrix::open(&out).unwrap(), small([1.0, 2.0]));
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let out = out("refused");
    let mut short = small([1.0, 2.0]);
    short.entries.values_mut().for_each(|e| e.columns = 3);
    let mut long = small([1.0, 2.0]);
    long.entries = long.entries.into_values().map(|e| ("n".repeat(60), e)).collect();
    let empty = Imatrix { entries: [].into(), ..small([0.0; 2]) };
    for (case, matrix, fragment) in [
        ("infinite", small([1.0, f32::INFINITY]), "blk.0.ffn_up.weight\": sum 1 is inf"),
        ("negative", small([-1.0, 0.0]), "sum 0 is -1"),
        ("shape", short, "1 matrices of 3 columns"),
        ("name", long, "the most is 63"),
        ("empty", empty, "without entries"),
    ] {
        let error = matrix.write_gguf(&out, false).unwrap_err().to_string();
        assert!(error.contains(fragment), "{case}: {error}");
        assert!(!out.exists(), "{case}");
    }
    assert!(small([1.0, f32::NAN]).write_dat(&out, false).is_err());
    assert!(!out.exists());
}

#[test]
fn files_are_replaced_only_when_asked() {
    let out = out("precious");
    fs::write(&out, "precious").unwrap();
    let matrix = small([1.0, 2.0]);
    assert!(matrix.write_gguf(&out, false).is_err() && matrix.write_dat(&out, false).is_err());
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    matrix.write_dat(&out, true).unwrap();
    assert_eq!(Imatrix::open(&out).unwrap().entries.len(), 1);
}
