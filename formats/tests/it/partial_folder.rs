//! Output folders that appear whole or not at all.
use std::fs;

use crate::common::Scratch;
use kquant_formats::FormatError;
use kquant_formats::partial::PartialFolder;

#[test]
fn a_finished_folder_has_its_name_and_files() {
    let scratch = Scratch::new();
    // A name that is free, with a separator, and an empty folder.
    fs::create_dir(scratch.path().join("empty")).unwrap();
    for name in ["new/", "empty"] {
        let out = scratch.path().join(name);
        let folder = PartialFolder::create(&out).unwrap();
        folder.write("a", b"1").unwrap();
        folder.write("inner/b", b"2").unwrap();
        assert!(!out.join("a").exists());
        folder.finish().unwrap();
        assert_eq!(
            (fs::read(out.join("a")).unwrap(), fs::read(out.join("inner/b")).unwrap()),
            (b"1".into(), b"2".into())
        );
    }
    assert_eq!(scratch.names(), ["empty", "new"]);
}

#[test]
fn an_abandoned_folder_disappears() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    let folder = PartialFolder::create(&out).unwrap();
    folder.write("a", b"1").unwrap();
    drop(folder);
    assert!(scratch.names().is_empty());
    // What appeared meanwhile stays.
    let folder = PartialFolder::create(&out).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("other"), "").unwrap();
    assert!(matches!(folder.finish(), Err(FormatError::Special { .. })));
    assert_eq!(scratch.names(), ["out"]);
}

#[test]
fn what_holds_files_or_is_no_folder_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.file("file", b"");
    let full = scratch.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("x"), "").unwrap();
    for (path, why) in [(file, "no folder"), (full, "a folder that holds files")] {
        let error = PartialFolder::create(&path).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let lost = scratch.path().join("missing/out");
    assert!(PartialFolder::create(&lost).unwrap_err().to_string().contains("cannot create"));
    assert_eq!(scratch.names(), ["file", "full"]);
}

#[cfg(target_os = "linux")]
#[test]
fn left_overs_of_killed_runs_go_and_those_of_living_ones_stay() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    let killed = scratch.path().join("out.kquant-a1B2c3D4.partial");
    fs::create_dir(&killed).unwrap();
    fs::write(killed.join("x"), "").unwrap();
    let living = PartialFolder::create(&out).unwrap();
    assert!(!killed.exists());
    let busy = PartialFolder::create(&out).unwrap_err().to_string();
    assert!(busy.contains("another run is writing it"), "{busy}");
    living.finish().unwrap();
    assert_eq!(scratch.names(), ["out"]);
}
