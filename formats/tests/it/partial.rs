//! Outputs that appear whole or not at all.
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use crate::common::{Scratch, check_error};
use kquant_formats::FormatError;
use kquant_formats::partial::{PartialFile, is_partial_of};

#[test]
fn a_finished_file_has_its_name_and_bytes() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out.gguf");
    let file = PartialFile::create(&out, 10, false).unwrap();
    let partial = file.partial_path().to_owned();
    assert!(is_partial_of(&partial, &out), "{}", partial.display());
    thread::scope(|s| {
        s.spawn(|| file.write_at(6, b"cd").unwrap());
        s.spawn(|| file.write_at(1, b"ab").unwrap());
    });
    file.write_at(10, b"").unwrap();
    assert_eq!(scratch.names(), [partial.file_name().unwrap().to_str().unwrap()]);
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
fn left_overs_are_removed_but_a_living_run_is_respected() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    let left = scratch.file("out.kquant-Abcd1234.partial", b"left by a killed run, and longer");
    let first = PartialFile::create(&out, 3, false).unwrap();
    assert!(!left.exists());
    check_error("second run", PartialFile::create(&out, 3, false), &out, "another run is writing it");
    assert_eq!(scratch.names().len(), 1);
    first.write_at(0, b"abc").unwrap();
    first.finish().unwrap();
    assert_eq!(scratch.names(), ["out"]);
    assert_eq!(fs::read(&out).unwrap(), b"abc");
}

#[test]
fn files_of_other_names_are_left_alone() {
    let scratch = Scratch::new();
    let others =
        ["out.partial", "out.kquant-.partial", "out.kquant-12345678", "other.kquant-12345678.partial"];
    others.iter().for_each(|name| drop(scratch.file(name, b"precious")));
    fs::create_dir(scratch.path().join("out.kquant-12345678.partial")).unwrap();
    PartialFile::create(&scratch.path().join("out"), 3, false).unwrap().finish().unwrap();
    let mut expected = others.to_vec();
    expected.extend(["out", "out.kquant-12345678.partial"]);
    expected.sort_unstable();
    assert_eq!(scratch.names(), expected);
}

#[test]
fn runs_that_start_at_once_are_one_that_writes_and_others_that_are_refused() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    for _ in 0..20 {
        let (started, done) = (Barrier::new(4), Barrier::new(4));
        let run = || {
            started.wait();
            let file = PartialFile::create(&out, 3, true);
            done.wait();
            file.map(|file| file.finish().unwrap()).map_err(|e| e.to_string())
        };
        let results: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        let refused =
            |r: &Result<(), String>| r.as_ref().is_err_and(|e| e.contains("another run is writing it"));
        assert_eq!(results.iter().filter(|result| refused(result)).count(), 3, "{results:?}");
        assert_eq!(scratch.names(), ["out"]);
    }
}

#[test]
fn an_unfinished_file_that_was_replaced_does_not_become_the_output() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    for force in [false, true] {
        let file = PartialFile::create(&out, 3, force).unwrap();
        let partial = file.partial_path().to_owned();
        fs::remove_file(&partial).unwrap();
        check_error("removed", file.finish(), &out, "removed or replaced");
        let file = PartialFile::create(&out, 3, force).unwrap();
        let partial = file.partial_path().to_owned();
        fs::remove_file(&partial).unwrap();
        fs::write(&partial, "another run's").unwrap();
        check_error("replaced", file.finish(), &out, "removed or replaced");
        assert!(!out.exists());
    }
}

#[test]
fn files_that_belong_together_appear_together_or_not_at_all() {
    let scratch = Scratch::new();
    let paths = ["a", "b", "c"].map(|name| scratch.path().join(name));
    let start = || paths.each_ref().map(|path| PartialFile::create(path, 1, false).unwrap());
    let files = start();
    scratch.file("b", b"other");
    check_error("appeared", PartialFile::finish_all(files), &paths[1], "already exists");
    assert_eq!(scratch.names(), ["b"]);
    fs::remove_file(&paths[1]).unwrap();
    let files = start();
    fs::remove_file(files[2].partial_path()).unwrap();
    check_error("lost", PartialFile::finish_all(files), &paths[2], "removed or replaced");
    assert!(scratch.names().is_empty(), "what had its name is taken back");
    PartialFile::finish_all(start()).unwrap();
    assert_eq!(scratch.names(), ["a", "b", "c"]);
}

#[test]
fn a_file_whose_size_was_not_known_is_filled_at_the_end() {
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    let mut file = PartialFile::create(&out, 0, false).unwrap();
    file.fill(b"longer").unwrap();
    file.fill(b"text").unwrap();
    file.finish().unwrap();
    assert_eq!(fs::read(&out).unwrap(), b"text");
}

#[cfg(unix)]
mod links_and_special_files {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_link_stays_and_its_target_is_replaced() {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("in")).unwrap();
        fs::write(at("in/file"), "old").unwrap();
        for (link, to) in [("link", "in/file"), ("link to link", "link"), ("to nothing", "in/new")] {
            symlink(to, at(link)).unwrap();
            check_error(link, PartialFile::create(&at(link), 3, false), &at(link), "already exists");
            let mut file = PartialFile::create(&at(link), 0, true).unwrap();
            assert_eq!(file.partial_path().parent(), Some(&*at("in")));
            file.fill(link.as_bytes()).unwrap();
            file.finish().unwrap();
            assert_eq!(fs::read_link(at(link)).unwrap(), Path::new(to));
            assert_eq!(fs::read(at(link)).unwrap(), link.as_bytes());
        }
        assert_eq!(fs::read(at("in/new")).unwrap(), b"to nothing");
        assert_eq!(fs::read_dir(at("in")).unwrap().count(), 2);
    }

    #[test]
    fn pipes_sockets_devices_and_links_to_them_are_refused_whatever_is_forced() {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _listening = UnixListener::bind(at("socket")).unwrap();
        symlink("pipe", at("to pipe")).unwrap();
        symlink("socket", at("to socket")).unwrap();
        symlink("/dev/null", at("to device")).unwrap();
        symlink("/proc/self/fd/0", at("to open file")).unwrap();
        let before = scratch.names();
        for (name, kind) in [
            ("pipe", "a pipe"),
            ("to pipe", "a pipe"),
            ("socket", "a socket"),
            ("to socket", "a socket"),
            ("to device", "a device"),
            ("to open file", "an open file"),
        ] {
            for force in [false, true] {
                check_error(name, PartialFile::create(&at(name), 1, force), &at(name), kind);
            }
        }
        assert_eq!(scratch.names(), before);
        assert_eq!(fs::read_link(at("to device")).unwrap(), Path::new("/dev/null"));
    }

    #[test]
    fn a_pipe_that_appears_meanwhile_is_kept() {
        let scratch = Scratch::new();
        let out = scratch.path().join("out");
        let file = PartialFile::create(&out, 1, true).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&out).status().unwrap().success());
        check_error("appeared", file.finish(), &out, "a pipe");
        assert!(!out.metadata().unwrap().is_file());
        assert_eq!(scratch.names(), ["out"]);
    }

    #[test]
    fn outputs_are_as_readable_as_other_new_files() {
        let scratch = Scratch::new();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        let out = scratch.path().join("out");
        PartialFile::create(&out, 1, false).unwrap().finish().unwrap();
        assert_eq!(mode(&out), mode(&scratch.file("other", b"")));
    }
}
