//! Damage of texts that knows their form: values of JSON trees replaced, removed, nested and copied, and pieces of YAML.
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value as Json, json};

/// What is put in the place of a value, or done to it.
#[derive(Debug, Clone)]
pub enum Change {
    Value(Json),
    /// The value is left out of its object or list.
    Remove,
    /// The value is put into a list, again and again.
    Nest(usize),
    /// The value of another place of the document is put here.
    Copy(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(0.1),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(1_000_000),
        json!(""),
        json!("\u{0}"),
        json!("a".repeat(300)),
        json!("(?i:("),
        json!([]),
        json!({}),
        json!([[], [1, "x"]]),
        json!({ "type": "Sequence", "pretokenizers": [] }),
        json!(7),
        json!("llama"),
        json!("float16"),
    ]);
    prop_oneof![
        6 => value.prop_map(Change::Value),
        2 => Just(Change::Remove),
        1 => (1usize..200).prop_map(Change::Nest),
        2 => any::<Index>().prop_map(Change::Copy),
    ]
}

pub fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    prop::collection::vec((any::<Index>(), change()), 1..4)
}

/// Pointers to all values in a document but itself. Of a long list or object the first and last values count, so that vocabularies
/// leave something to the rest.
fn places(json: &Json, at: &str, out: &mut Vec<String>) {
    let names: Vec<String> = match json {
        Json::Object(all) => all.keys().cloned().collect(),
        Json::Array(all) => (0..all.len()).map(|i| i.to_string()).collect(),
        _ => return,
    };
    for (number, name) in names.iter().enumerate() {
        if number < 8 || number + 4 > names.len() {
            let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            if let Some(inner) = json.pointer(&pointer[at.len()..]) {
                places(inner, &pointer, out);
            }
            out.push(pointer);
        }
    }
}

/// Makes the changes.
pub fn changed(mut json: Json, changes: &[(Index, Change)]) -> Json {
    for (at, change) in changes {
        let mut all = Vec::new();
        places(&json, "", &mut all);
        if all.is_empty() {
            break;
        }
        let pointer: String = at.get(&all).clone();
        let copy = match change {
            Change::Copy(from) => json.pointer(from.get(&all).as_str()).cloned(),
            _ => None,
        };
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/").replace("~0", "~");
        let Some(value) = json.pointer_mut(&pointer) else { continue };
        match change {
            Change::Value(new) => *value = new.clone(),
            Change::Copy(_) => *value = copy.unwrap_or_default(),
            Change::Nest(depth) => (0..*depth).for_each(|_| *value = json!([value.take()])),
            Change::Remove => match json.pointer_mut(parent) {
                Some(Json::Object(all)) => drop(all.remove(&name)),
                Some(Json::Array(all)) => drop(all.remove(name.parse::<usize>().unwrap())),
                _ => {}
            },
        }
    }
    json
}

/// Pieces of YAML that are put together at random.
pub fn yaml() -> impl Strategy<Value = String> {
    let pieces = [
        "license: mit\n",
        "- a\n",
        "base_model: a/b\n",
        "tags: [a, 'b', *x]\n",
        "x: &x y\n",
        "? \n",
        "  ",
        "\t",
        "<<: *x\n",
        "!!binary ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "---\n",
        "...\n",
        "#",
        "\u{feff}",
        "- - - \n",
        "name: &n [*n]\n",
        ": ",
        "\u{0}",
    ];
    let piece =
        prop_oneof![3 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| format!("---\n{}\n---\n", pieces.concat()))
}
