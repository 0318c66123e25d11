//! Tests of the tables' consistency, and of the facts about a model.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::super::{FILE_TYPES, ModelFacts, fallback, importance, mixtures, output_order};
use super::block;

#[test]
fn every_type_in_every_table_exists() {
    let rules = FILE_TYPES.iter().flat_map(|t| t.rules).chain(mixtures::COMMON);
    let mut all: Vec<&str> = rules.map(|r| r.then).collect();
    all.extend(FILE_TYPES.iter().flat_map(|t| t.base.into_iter().chain(t.embedding).chain([t.output])));
    for adjustment in mixtures::ADJUSTMENTS {
        all.extend(adjustment.from);
        all.push(adjustment.rule.then);
    }
    for (long, short) in fallback::SHORTER {
        all.extend(*long);
        all.push(short);
    }
    all.push(fallback::ANY_LENGTH);
    all.push(importance::POLICY.0);
    assert!(all.iter().all(|name| block(name).name == *name));
}

#[test]
fn file_types_have_one_name_and_number_each() {
    for (i, a) in FILE_TYPES.iter().enumerate() {
        for b in &FILE_TYPES[..i] {
            assert_ne!(a.name, b.name);
            assert!(a.id != b.id && !a.aliases.contains(&b.name), "{} {}", a.name, b.name);
        }
    }
}

#[test]
fn every_long_block_type_has_a_shorter_one_that_any_multiple_of_32_fits() {
    for (long, short) in fallback::SHORTER {
        assert_eq!(block(short).elements, 32);
        assert!(long.iter().all(|name| block(name).elements > 32), "{long:?}");
    }
}

#[test]
fn facts_come_from_keys() {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama".into());
    metadata.set("llama.block_count", Value::U32(80));
    metadata.set("llama.attention.head_count", Value::Array(Array::I32(vec![64, 32])));
    metadata.set("llama.attention.head_count_kv", Value::U32(8));
    metadata.set("llama.expert_count", Value::U32(0));
    let facts = ModelFacts::from_metadata(&metadata, &["blk.7.attn_v.weight"], true);
    let expected = ModelFacts {
        arch: "llama".to_owned(),
        layers: 80,
        heads: 64,
        heads_kv: 8,
        experts: 0,
        has_importance: true,
    };
    assert_eq!(facts, expected);
    assert_eq!(facts.heads_per_value(), 8);
}

#[test]
fn unknown_architectures_have_defaults() {
    let names =
        ["token_embd.weight", "blk.0.attn_v.weight", "blk.11.attn_v.weight", "v.blk.40.attn_v.weight"];
    let facts = ModelFacts::from_metadata(&Metadata::new(), &names, false);
    assert_eq!(facts, ModelFacts { layers: 12, ..ModelFacts::default() });
    assert_eq!(facts.heads_per_value(), 0);

    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "myarch".into());
    metadata.set("myarch.attention.head_count", Value::U32(16));
    let facts = ModelFacts::from_metadata(&metadata, &[], false);
    assert_eq!((facts.layers, facts.heads, facts.heads_kv), (0, 16, 16));
}

#[test]
fn order_is_by_layer_number_then_name() {
    let names = ["blk.10.a", "blk.2.b", "v.blk.1.a", "blk.2.a", "output.weight", "blk.x.a"];
    let ordered: Vec<&str> = output_order(&names).into_iter().map(|i| names[i]).collect();
    assert_eq!(ordered, ["blk.x.a", "output.weight", "v.blk.1.a", "blk.2.a", "blk.2.b", "blk.10.a"]);
}
