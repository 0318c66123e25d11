//! docs/dependencies.md lists every direct dependency, and the licences of all are known ones.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

/// A file of the repository.
fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Licences that allow kquant to be given away under its own: those that deny.toml lists.
fn licences(settings: &str) -> BTreeSet<&str> {
    let (_, list) = settings.split_once("\nallow = [\n").unwrap();
    let (list, _) = list.split_once("\n]").unwrap();
    list.lines().map(|line| line.trim().trim_end_matches(',').trim_matches('"')).collect()
}

/// What `cargo metadata` says with `more` arguments, without the network.
fn metadata(more: &[&str]) -> Json {
    let run = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(more)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// The platform that this is built on, whose crates are all at hand.
fn platform() -> String {
    let told = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let told = String::from_utf8(told).unwrap();
    told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn every_direct_dependency_is_listed_with_its_reason() {
    let page = file("docs/dependencies.md");
    let metadata = metadata(&["--no-deps"]);
    let own = metadata["packages"].as_array().unwrap();
    assert_eq!(own.len(), 3);
    let mut used = BTreeSet::new();
    for dependency in own.iter().flat_map(|package| package["dependencies"].as_array().unwrap()) {
        let name = dependency["name"].as_str().unwrap();
        if !name.starts_with("kquant") {
            used.insert(name);
        }
    }
    let listed: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|cell| *cell != "crate")
        .flat_map(|cell| cell.split(", "))
        .collect();
    let for_tests = ["criterion", "proptest"];
    assert!(for_tests.iter().all(|name| page.contains(name)));
    let used: BTreeSet<&str> = used.into_iter().filter(|name| !for_tests.contains(name)).collect();
    assert_eq!(used, listed);
}

#[test]
fn all_licences_are_known() {
    let metadata = metadata(&["--filter-platform", &platform()]);
    let settings = file("deny.toml");
    let licences = licences(&settings);
    assert!(licences.contains("MIT") && licences.len() > 10, "{licences:?}");
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        // Of alternatives, one that is known is enough; what is joined by AND must be known altogether.
        let is_known = licence.split(" OR ").flat_map(|one| one.split('/')).any(|one| {
            one.trim_matches(['(', ')', ' '])
                .split(" AND ")
                .all(|part| licences.contains(part.trim_matches(['(', ')', ' '])))
        });
        assert!(is_known, "{} {}: {licence}", package["name"], package["version"]);
    }
}
