//! Outputs appear whole or not at all.
use std::fs;
use std::thread;

use crate::common::{Scratch, check_error};
use kquant_formats::FormatError;
use kquant_formats::partial::PartialFile;

#[test]
fn a_finished_file_has_its_name_and_bytes() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out.gguf");
    let file = PartialFile::create(&out, 10, false).unwrap();
    assert_eq!(file.partial_path(), scratch.path().join("out.gguf.partial"));
    thread::scope(|s| {
        s.spawn(|| file.write_at(6, b"cd").unwrap());
        s.spawn(|| file.write_at(1, b"ab").unwrap());
    });
    file.write_at(10, b"").unwrap();
    assert_eq!(scratch.names(), ["out.gguf.partial"]);
    file.finish().unwrap();
    assert_eq!(scratch.names(), ["out.gguf"]);
    assert_eq!(fs::read(&out).unwrap(), b"\0ab\0\0\0cd\0\0");
}

#[test]
fn an_abandoned_file_disappears() {
    let scratch = Scratch::new();
    let out = scratch.file("out", b"old");
    let file = PartialFile::create(&out, 4, true).unwrap();
    file.write_at(0, b"new!").unwrap();
    drop(file);
    assert_eq!(scratch.names(), ["out"]);
    assert_eq!(fs::read(&out).unwrap(), b"old");
}

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let scratch = Scratch::new();
    let out = scratch.file("out", b"old");
    let error = PartialFile::create(&out, 3, false).unwrap_err();
    assert!(matches!(&error, FormatError::Exists(path) if *path == out), "{error}");
    assert_eq!(scratch.names(), ["out"]);
    let file = PartialFile::create(&out, 3, true).unwrap();
    file.write_at(0, b"new").unwrap();
    file.finish().unwrap();
    assert_eq!(fs::read(&out).unwrap(), b"new");
}

#[test]
fn a_file_that_appears_meanwhile_is_kept() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    let file = PartialFile::create(&out, 3, false).unwrap();
    scratch.file("out", b"other");
    check_error("appeared", file.finish(), &out, "already exists");
    assert_eq!(scratch.names(), ["out"]);
    assert_eq!(fs::read(&out).unwrap(), b"other");
}

#[test]
fn bad_places_are_refused() {
    let scratch = Scratch::new();
    let create = |path, force| PartialFile::create(path, 1, force);
    check_error("folder", create(scratch.path(), true), scratch.path(), "cannot write to");
    let lost = scratch.path().join("none/out");
    check_error("no such folder", create(&lost, false), &lost, "cannot create");
    let below_a_file = scratch.file("file", b"").join("out");
    check_error("below a file", create(&below_a_file, false), &below_a_file, "cannot create");
    assert_eq!(scratch.names(), ["file"]);
}

#[test]
fn writes_outside_of_the_size_are_refused() {
    let scratch = Scratch::new();
    let file = PartialFile::create(&scratch.path().join("out"), 4, false).unwrap();
    for offset in [1, 4, u64::MAX] {
        let error = file.write_at(offset, b"1234").unwrap_err();
        assert!(error.to_string().contains("do not fit a file of 4 bytes"), "{error}");
    }
    file.write_at(0, b"1234").unwrap();
}

#[test]
fn sizes_that_no_file_can_have_leave_nothing_behind() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    check_error(
        "2^64-1 bytes",
        PartialFile::create(&out, u64::MAX, false),
        &out,
        "cannot give its full size to",
    );
    assert!(scratch.names().is_empty());
}

#[test]
fn leftovers_are_reused_but_a_living_run_is_respected() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    scratch.file("out.partial", b"left by a killed run, and longer");
    let first = PartialFile::create(&out, 3, false).unwrap();
    check_error("second run", PartialFile::create(&out, 3, false), &out, "another run is writing it");
    assert_eq!(scratch.names(), ["out.partial"]);
    first.write_at(0, b"abc").unwrap();
    first.finish().unwrap();
    assert_eq!(fs::read(&out).unwrap(), b"abc");
}
