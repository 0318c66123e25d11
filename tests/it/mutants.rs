//! Damaged configurations, vocabularies, cards, manifests and journals: they are taken or refused, without a panic.
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseResult, TestRunner};
use serde_json::Value as Json;

/// Damage of bytes, which formats are tested with.
#[path = "../../formats/tests/it/common/mutants.rs"]
mod damage;
mod readers;
mod seeds;
mod texts;

/// A reader's name, whole files, and what reads them.
type Kind = (&'static str, fn() -> Vec<Vec<u8>>, fn(&[u8]) -> bool);

const KINDS: [Kind; 10] = [
    ("configuration", seeds::configuration, readers::configuration),
    ("vocabulary", seeds::vocabulary, readers::vocabulary),
    ("tokenizer_configuration", seeds::tokenizer_configuration, readers::tokenizer_configuration),
    ("generation_configuration", seeds::generation_configuration, readers::generation_configuration),
    ("model_card", seeds::model_card, readers::model_card),
    ("model", seeds::model, readers::model),
    ("manifest", seeds::manifest, readers::manifest),
    ("prices", seeds::prices, readers::prices),
    ("tensor_types", seeds::tensor_types, readers::tensor_types),
    ("resume_journal", seeds::resume_journal, readers::resume_journal),
];

fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.0 == name).unwrap()
}

/// Runs 500 cases, of which some must be taken: else the damage would reach nothing but the first check.
fn run<S: Strategy>(damage: &S, is_taken: impl Fn(S::Value) -> bool) {
    let taken = Cell::new(0);
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let case = |damage| -> TestCaseResult {
        taken.set(taken.get() + usize::from(is_taken(damage)));
        Ok(())
    };
    TestRunner::new(config).run(damage, case).unwrap();
    assert!(taken.get() > 0, "none of the damaged files was taken");
}

/// Changes the JSON trees of a kind's whole files; of every fourth one the bytes, too.
fn of_json(name: &str) {
    let (_, seeds, read) = kind(name);
    let seeds = seeds();
    let trees: Vec<Json> = seeds.iter().filter_map(|seed| serde_json::from_slice(seed).ok()).collect();
    let bytes = prop_oneof![3 => Just(Vec::new()), 1 => damage::changes()];
    run(&(any::<Index>(), texts::changes(), bytes), |(tree, changes, bytes)| {
        let text = texts::changed(tree.get(&trees).clone(), &changes).to_string();
        read(&damage::damaged(text.into_bytes(), &bytes))
    });
}

/// Changes the bytes of a kind's whole files.
fn of_bytes(name: &str) {
    let (_, seeds, read) = kind(name);
    let seeds = seeds();
    run(&(any::<Index>(), damage::changes()), |(seed, changes)| {
        read(&damage::damaged(seed.get(&seeds).clone(), &changes))
    });
}

#[test]
fn whole_files_are_taken() {
    for (name, seeds, read) in KINDS {
        let taken: Vec<bool> = seeds().iter().map(|seed| read(seed)).collect();
        assert_eq!(taken, vec![true; taken.len()], "{name}");
    }
}

#[test]
fn of_configurations() {
    of_json("configuration");
}

#[test]
fn of_vocabularies() {
    of_json("vocabulary");
}

#[test]
fn of_tokenizer_configurations() {
    of_json("tokenizer_configuration");
}

#[test]
fn of_generation_configurations() {
    of_json("generation_configuration");
}

#[test]
fn of_models() {
    of_bytes("model");
}

#[test]
fn of_manifests() {
    of_json("manifest");
}

#[test]
fn of_lines_of_hashes() {
    of_bytes("manifest");
}

#[test]
fn of_prices() {
    of_json("prices");
}

#[test]
fn of_types_of_tensors() {
    of_bytes("tensor_types");
}

#[test]
fn of_journals() {
    of_json("resume_journal");
}

#[test]
fn of_damaged_journals() {
    of_bytes("resume_journal");
}

#[test]
fn of_model_cards() {
    run(&texts::yaml(), |card| readers::model_card(card.as_bytes()));
}

#[test]
fn of_damaged_model_cards() {
    of_bytes("model_card");
}

/// Each reader of the tests is a target of libFuzzer, under its own name.
#[test]
fn every_reader_is_fuzzed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let listed: BTreeSet<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    let file = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let sources = [
        ("formats", file("formats/tests/it/common/readers.rs")),
        ("program", file("tests/it/mutants/readers.rs")),
    ];
    let mut fuzzed = BTreeSet::new();
    for (room, source) in &sources {
        for name in source
            .lines()
            .filter_map(|line| line.strip_prefix("pub fn ")?.strip_suffix("(bytes: &[u8]) -> bool {"))
        {
            let target = file(&format!("fuzz/fuzz_targets/{name}.rs"));
            assert!(target.contains(&format!("kquant_fuzz::target!({room}, {name});")), "{target}");
            fuzzed.insert(name);
        }
    }
    assert_eq!(fuzzed, listed);
}
