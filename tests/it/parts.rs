//! A model encoded in parts, by runs that know nothing of each other, and assembled.

use std::fs;
use std::path::{Path, PathBuf};

use kquant::hash::bytes_sha256;
use kquant::parts::{part_path, record_path};
use serde_json::Value as Json;

use crate::support::{Scratch, copy_changed, data, kquant, ok, refused, stderr};

/// Arguments of a run on `model`.
struct Case<'a> {
    model: &'a str,
    options: Vec<&'a str>,
}

impl Case<'_> {
    /// Makes part `no`, from 1, of `count` in `folder`; returns what was printed as JSON.
    fn part(&self, folder: &Path, (no, count): (u16, u16), more: &[&str]) -> Json {
        serde_json::from_str(&ok(kquant(self.args(folder, (no, count), more)))).unwrap()
    }

    fn args(&self, folder: &Path, (no, count): (u16, u16), more: &[&str]) -> Vec<String> {
        let part = format!("{no}/{count}");
        let fixed = ["quantize", self.model, "-o", folder.to_str().unwrap(), "--part", &part, "--json"];
        fixed.iter().chain(&self.options).chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    /// Makes the whole file in one run.
    fn whole(&self, out: &Path) {
        let fixed = ["quantize", self.model, "-o", out.to_str().unwrap(), "--quiet"];
        ok(kquant(fixed.iter().chain(&self.options)));
    }
}

fn assemble(folder: &Path, out: &Path) -> std::process::Output {
    kquant(["assemble", folder.to_str().unwrap(), "-o", out.to_str().unwrap(), "--json"])
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn parts_make_the_file_of_one_run() {
    let scratch = Scratch::new("parts");
    let tiny = data("tiny-llama");
    let (statistics, prices) = (scratch.path("statistics.gguf"), scratch.path("prices.json"));
    let corpus = data("corpora/calibration-small.txt");
    let of = ["--text", text(&corpus), "--chunks", "16", "-c", "128"];
    let calibrate = ["calibrate", text(&tiny), "--fisher", "--output-tensor", "-o", text(&statistics)];
    ok(kquant(calibrate.iter().chain(&of)));
    let price = ["prices", text(&tiny), "--statistics", text(&statistics), "-o", text(&prices)];
    ok(kquant(price.iter().chain(&["--quality", "good"])));
    let experts = data("archs/mixtral");
    let imatrix = data("golden/tiny-llama.imatrix.gguf");
    let cases = [
        ("plain", text(&tiny), vec!["--type", "Q4_K_M"]),
        ("importance", text(&tiny), vec!["--type", "Q3_K_S", "--imatrix", text(&imatrix)]),
        ("experts", text(&experts), vec!["--type", "Q4_0", "--override-kv", "general.name=str:x"]),
        ("good", text(&tiny), vec!["--type", "Q3_K_S", "--statistics", text(&statistics)]),
        (
            "best",
            text(&tiny),
            vec!["--type", "Q3_K_S", "--statistics", text(&statistics), "--quality", "best"],
        ),
        (
            "size",
            text(&tiny),
            vec!["--bpw", "4.5", "--prices", text(&prices), "--statistics", text(&statistics)],
        ),
    ];
    for (name, model, options) in cases {
        let case = Case { model, options };
        let whole = scratch.path(&format!("{name}.gguf"));
        case.whole(&whole);
        let expected = bytes_sha256(&fs::read(&whole).unwrap());
        // With 40 parts some have no tensor; once is enough for those.
        let counts: &[u16] = if name == "plain" { &[1, 3, 40] } else { &[3] };
        for &count in counts {
            let folder = scratch.path(&format!("{name}-{count}"));
            for no in (1..=count).rev() {
                let more: &[&str] = if no % 2 == 0 { &["--threads", "1", "--memory", "64M"] } else { &[] };
                assert_eq!(case.part(&folder, (no, count), more)["already_there"], false);
            }
            let out = scratch.path(&format!("{name}-{count}.gguf"));
            let printed: Json = serde_json::from_str(&ok(assemble(&folder, &out))).unwrap();
            assert_eq!(printed[0]["sha256"], expected, "{name} in {count} parts");
            assert_eq!(bytes_sha256(&fs::read(&out).unwrap()), expected, "{name} in {count} parts");
        }
    }
}

/// Parts 1 to 4 of a model in a folder, each complete.
fn four(scratch: &Scratch, case: &Case) -> PathBuf {
    let folder = scratch.path("parts");
    for no in 1..=4 {
        case.part(&folder, (no, 4), &[]);
    }
    folder
}

#[test]
fn a_part_that_is_there_is_left_and_a_damaged_one_made_again() {
    let scratch = Scratch::new("parts-again");
    let tiny = data("tiny-llama");
    let case = Case { model: text(&tiny), options: vec!["--type", "Q4_0"] };
    let folder = four(&scratch, &case);
    let (part, out) = (part_path(&folder, 1, 4), scratch.path("out.gguf"));
    let modified = || fs::metadata(&part).unwrap().modified().unwrap();
    let (bytes, before) = (fs::read(&part).unwrap(), modified());
    let again = case.part(&folder, (2, 4), &[]);
    assert_eq!(again["already_there"], true);
    assert_eq!(again["files"][0]["path"], text(&part));
    assert_eq!(modified(), before);

    // In the tensors, in the metadata, in the length.
    let cut = bytes.len() - 40;
    let flipped = |at: usize| {
        let mut other = bytes.clone();
        other[at] ^= 1;
        other
    };
    for (damaged, what) in
        [(flipped(cut), "its tensor"), (flipped(9), "part-00002"), (bytes[..cut].to_vec(), "bytes, ")]
    {
        fs::write(&part, damaged).unwrap();
        let output = assemble(&folder, &out);
        refused("damaged", &output, what, &out);
        assert!(stderr(&output).contains("part-00002-of-00004.gguf"), "{}", stderr(&output));
        assert_eq!(case.part(&folder, (2, 4), &[])["already_there"], false);
        assert_eq!(fs::read(&part).unwrap(), bytes);
    }
    // A run was killed between the part and its record.
    fs::remove_file(record_path(&part)).unwrap();
    refused("no record", &assemble(&folder, &out), "1 of 4 parts are missing or not complete: 2;", &out);
    assert_eq!(case.part(&folder, (2, 4), &[])["already_there"], false);
    fs::write(record_path(&part), "{}").unwrap();
    refused("bad record", &assemble(&folder, &out), "part-00002-of-00004.json: is no record", &out);
    fs::remove_file(record_path(&part)).unwrap();
    case.part(&folder, (2, 4), &[]);
    ok(assemble(&folder, &out));
    refused("exists", &kquant(["assemble", text(&folder), "-o", text(&part)]), "input", &scratch.path("no"));
}

#[test]
fn parts_of_another_run_are_named() {
    let scratch = Scratch::new("parts-other");
    let tiny = data("tiny-llama");
    let case = Case { model: text(&tiny), options: vec!["--type", "Q4_0"] };
    let folder = four(&scratch, &case);
    let (out, part) = (scratch.path("out.gguf"), part_path(&folder, 2, 4));
    let changed = copy_changed("tiny-llama", &scratch.path("model"), "model.norm.weight", |_, bytes| {
        bytes[0] ^= 1;
    });
    let others = [
        (Case { model: text(&tiny), options: vec!["--type", "Q4_1"] }, "`type` differs"),
        (
            Case { model: text(&tiny), options: vec!["--type", "Q4_0", "--encoder", "search"] },
            "`encoder` differs",
        ),
        (Case { model: text(&changed), options: vec!["--type", "Q4_0"] }, "the source files differ"),
    ];
    let before = fs::read(&part).unwrap();
    for (other, what) in others {
        let output = kquant(other.args(&folder, (3, 4), &[]));
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("part-00003-of-00004.gguf: is a part of another run"),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains(what), "{}", stderr(&output));
        assert_eq!(fs::read(&part).unwrap(), before);
        other.part(&folder, (3, 4), &["--force"]);
        let output = assemble(&folder, &out);
        refused("another run", &output, what, &out);
        assert!(stderr(&output).contains("part-00003"), "{}", stderr(&output));
        case.part(&folder, (3, 4), &["--force"]);
    }
    case.part(&folder, (1, 2), &[]);
    refused("divisions", &assemble(&folder, &out), "parts of 2 and parts of 4", &out);
    let none = scratch.path("none");
    refused("no folder", &assemble(&none, &out), "list", &out);
    fs::create_dir(&none).unwrap();
    refused("no part", &assemble(&none, &out), "holds no file like part-00001-of-00008.gguf", &out);
}

#[test]
fn what_cannot_be_done_in_parts_is_refused() {
    let scratch = Scratch::new("parts-refused");
    let tiny = data("tiny-llama");
    let folder = scratch.path("parts");
    let corpus = data("corpora/calibration-small.txt");
    for (more, what) in [
        (vec!["--type", "Q4_0", "--calibrate", text(&corpus)], "cannot be used with"),
        (vec!["--type", "Q4_0", "--verify", text(&corpus)], "cannot be used with"),
        (vec!["--type", "Q4_0", "--quality", "best"], "--statistics"),
    ] {
        let case = Case { model: text(&tiny), options: more };
        refused(what, &kquant(case.args(&folder, (1, 2), &[])), what, &folder);
    }
    for part in ["0/4", "5/4", "4", "1/70000"] {
        let args = ["quantize", text(&tiny), "-o", text(&folder), "--type", "Q4_0", "--part", part];
        refused(part, &kquant(args), "part", &folder);
    }
}
