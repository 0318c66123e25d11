//! Damaged files of every format: readers refuse them or read all of them, without a panic and without more memory than the file
//! gives reason for.
use std::cell::Cell;

use crate::common::mutants::{changes, damaged};
use crate::common::{readers, seeds};
use proptest::prelude::*;
use proptest::sample::Index;

/// A reader's name, whole files, and what reads them.
type Format = (&'static str, fn() -> Vec<Vec<u8>>, fn(&[u8]) -> bool);

const FORMATS: [Format; 7] = [
    ("gguf", seeds::gguf, readers::gguf),
    ("safetensors", seeds::safetensors, readers::safetensors),
    ("importance", seeds::importance, readers::importance),
    ("statistics", seeds::statistics, readers::statistics),
    ("logits", seeds::logits, readers::logits),
    ("sentencepiece", seeds::sentencepiece, readers::sentencepiece),
    ("targets", seeds::targets, readers::targets),
];

/// Damages files of the format `name` 600 times; some of them must still be taken, or the damage reaches nothing.
fn of(name: &str) {
    let (_, seeds, read) = FORMATS.iter().find(|format| format.0 == name).unwrap();
    let seeds = seeds();
    let taken = Cell::new(0);
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    let run = proptest::test_runner::TestRunner::new(config).run(
        &(any::<Index>(), changes()),
        |(seed, changes)| {
            let is_taken = read(&damaged(seed.get(&seeds).clone(), &changes));
            taken.set(taken.get() + usize::from(is_taken));
            Ok(())
        },
    );
    run.unwrap();
    assert!(taken.get() > 0, "none of the damaged files was taken");
}

#[test]
fn whole_files_are_taken() {
    for (name, seeds, read) in FORMATS {
        assert!(seeds().iter().all(|seed| read(seed)), "{name}");
    }
}

#[test]
fn of_gguf() {
    of("gguf");
}

#[test]
fn of_safetensors() {
    of("safetensors");
}

#[test]
fn of_importance() {
    of("importance");
}

#[test]
fn of_statistics() {
    of("statistics");
}

#[test]
fn of_logits() {
    of("logits");
}

#[test]
fn of_sentencepiece() {
    of("sentencepiece");
}

#[test]
fn of_teachers_files() {
    of("targets");
}
