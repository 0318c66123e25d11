//! The rooms of the library: which may use which. What is not listed here is a change of the design.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each room and the rooms that it uses, from the ground up: a room uses only rooms above it in this list, so that there is no
/// circle.
const ROOMS: &[(&str, &[&str])] = &[
    ("checkpoint", &[]),
    ("context", &[]),
    ("graph", &[]),
    ("text", &[]),
    ("encode", &[]),
    ("vocab", &[]),
    ("threads", &[]),
    ("symmetric", &[]),
    ("chart", &[]),
    ("outputs", &[]),
    ("hash", &["checkpoint", "context"]),
    ("shards", &["context", "hash"]),
    ("parts", &["checkpoint", "context", "hash", "shards"]),
    ("tensor", &["checkpoint", "encode"]),
    ("recipe", &["tensor"]),
    ("model_card", &["checkpoint", "context", "hash", "recipe"]),
    ("arch", &["checkpoint", "graph", "tensor"]),
    ("convert", &["checkpoint", "graph", "tensor", "arch", "vocab"]),
    ("transform", &["graph", "tensor", "arch", "vocab", "convert"]),
    ("folder", &["checkpoint", "context", "tensor", "arch", "convert"]),
    ("model", &["checkpoint", "context", "graph", "text", "vocab", "tensor", "arch", "convert"]),
    ("evaluate", &["context", "text", "arch", "model"]),
    (
        "report",
        &[
            "chart",
            "checkpoint",
            "context",
            "convert",
            "evaluate",
            "hash",
            "model",
            "tensor",
            "text",
            "vocab",
        ],
    ),
    ("statistics", &["context", "text", "encode", "tensor", "model"]),
    ("plan", &["checkpoint", "text", "encode", "recipe", "hash", "tensor", "convert"]),
    ("layerwise", &["context", "graph", "text", "encode", "tensor", "model", "statistics", "plan"]),
    (
        "distill",
        &["context", "text", "encode", "tensor", "symmetric", "model", "evaluate", "statistics", "hash"],
    ),
    (
        "prune",
        &[
            "context",
            "symmetric",
            "tensor",
            "graph",
            "text",
            "transform",
            "model",
            "evaluate",
            "statistics",
            "layerwise",
        ],
    ),
    ("prices", &["context", "encode", "recipe", "tensor", "model", "statistics", "plan"]),
    ("pipeline", &["checkpoint", "context", "threads", "encode", "hash", "tensor", "plan"]),
    (
        "job",
        &[
            "checkpoint",
            "context",
            "encode",
            "recipe",
            "outputs",
            "text",
            "vocab",
            "model",
            "hash",
            "tensor",
            "convert",
            "transform",
            "folder",
            "prune",
            "distill",
            "statistics",
            "plan",
            "layerwise",
            "prices",
            "pipeline",
            "parts",
            "evaluate",
        ],
    ),
    ("facade", &["context", "threads", "recipe", "model", "evaluate", "job"]),
];

/// The names that follow `crate::` in `source`, comments and unit tests left out.
fn used(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = code.join("\n");
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => names.extend(first_level(group)),
            None => names.extend([word(after)]),
        }
    }
    names
}

/// The first words of the items of a `{...}` whose opening brace has been taken off.
fn first_level(group: &str) -> Vec<String> {
    let (mut depth, mut items, mut item) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    items.push(item);
    items.iter().map(|item| word(item.trim_start())).filter(|word| !word.is_empty()).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Adds what the files below `folder` use.
fn walk(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Unit tests may look at any room.
        let tests = name.starts_with("tests") || path.ends_with("backward/check.rs");
        if path.is_dir() && !tests {
            walk(&path, names);
        } else if name.ends_with(".rs") && !tests {
            names.extend(used(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn rooms_use_what_is_listed_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    for (room, _) in ROOMS {
        let mut names = BTreeSet::new();
        let file = root.join(format!("{room}.rs"));
        match file.is_file() {
            true => names.extend(used(&std::fs::read_to_string(&file).unwrap())),
            false => walk(&root.join(room), &mut names),
        }
        names.remove(*room);
        found.insert(room.to_string(), names);
    }
    let listed: BTreeMap<String, BTreeSet<String>> = ROOMS
        .iter()
        .map(|(room, uses)| (room.to_string(), uses.iter().map(|name| name.to_string()).collect()))
        .collect();
    assert_eq!(found, listed);
}

#[test]
fn no_circle_is_listed_and_no_room_left_out() {
    let mut above = BTreeSet::new();
    for (room, uses) in ROOMS {
        for name in *uses {
            assert!(above.contains(name), "{room} uses {name}, which is not above it");
        }
        above.insert(*room);
    }
    let library = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules: BTreeSet<&str> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(modules, above);
}

#[test]
fn uses_are_found_in_every_form() {
    let source = "use crate::{a::{x, y}, b, c::Z};\nfn f() { crate::d::g(); } // crate::no\nuse crate::e;\n#[cfg(test)]\nmod tests { use crate::h; }";
    let expected: BTreeSet<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
    assert_eq!(used(source), expected);
}
