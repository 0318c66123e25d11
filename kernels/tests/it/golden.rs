//! Tests that compare every block type with ggml's own bytes: `data/blocks` holds 48 rows of 512 weights, the blocks
//! that ggml's encoders make of them, and the SHA-256 of the weights that its decoders make of the blocks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kquant_kernels::block::{self, BlockType, Importance};
use kquant_kernels::isa::Isa;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The recorded rows, and the manifest of what ggml made of them.
struct Golden {
    manifest: Value,
    columns: usize,
    row_names: Vec<String>,
    /// The weights, `[rows][columns]`.
    input: Vec<f32>,
    /// The importance of all rows, `[columns]`.
    importance: Vec<f32>,
}

impl Golden {
    fn load() -> Self {
        let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        let columns = manifest["cols"].as_u64().unwrap() as usize;
        let row_names: Vec<String> = serde_json::from_value(manifest["row_names"].clone()).unwrap();
        let (input, importance) = (floats(&read("input.f32")), floats(&read("importance.f32")));
        assert_eq!(input.len(), row_names.len() * columns);
        assert_eq!(importance.len(), columns);
        Self { manifest, columns, row_names, input, importance }
    }

    /// Returns the bytes recorded of type `name`, encoded "plain" or "weighted" (`way`), and the SHA-256 of the decoded
    /// weights.
    fn recorded(&self, name: &str, way: &str) -> Option<(Vec<u8>, &str)> {
        let file = self.manifest["types"][name]["files"].get(way)?;
        let bytes = read(file["file"].as_str().unwrap());
        assert_eq!(hex(&Sha256::digest(&bytes)), file["sha256"].as_str().unwrap(), "{name}.{way} is damaged");
        Some((bytes, file["decoded_sha256"].as_str().unwrap()))
    }

    fn row_bytes(&self, ty: &BlockType) -> usize {
        ty.row_bytes(self.columns as u64).unwrap() as usize
    }
}

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks").join(file);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    words.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn block_type(name: &str) -> &'static BlockType {
    block::by_name(name).unwrap_or_else(|| panic!("{name} is not in the table of block types"))
}

/// Checks that the table's row of the type agrees with the manifest.
fn check_shape(name: &str) {
    let golden = Golden::load();
    let ty = block_type(name);
    let entry = &golden.manifest["types"][name];
    assert_eq!(ty.name, name.to_uppercase());
    assert_eq!(u64::from(ty.id), entry["id"]);
    assert_eq!(ty.elements as u64, entry["block_elems"]);
    assert_eq!(ty.bytes as u64, entry["block_bytes"]);
    assert_eq!(golden.row_bytes(ty) as u64, entry["row_bytes"]);
}

/// Checks that every recorded file of the type decodes, row by row, to the recorded weights.
fn check_decode(name: &str) {
    let golden = Golden::load();
    let ty = block_type(name);
    let mut files = 0;
    for way in ["plain", "weighted"] {
        let Some((bytes, expected)) = golden.recorded(name, way) else { continue };
        let mut hash = Sha256::new();
        let mut weights = vec![f32::NAN; golden.columns];
        for row in bytes.chunks(golden.row_bytes(ty)) {
            (ty.decode)(row, &mut weights);
            weights.iter().for_each(|w| hash.update(w.to_le_bytes()));
        }
        assert_eq!(hex(&hash.finalize()), expected, "{name}.{way}: decoded weights differ");
        files += 1;
    }
    assert!(files > 0, "nothing is recorded of {name}");
}

/// Checks that the encoder writes the recorded bytes for every row on every instruction set, without and with
/// importance.
fn check_encode(name: &str) {
    let golden = Golden::load();
    let ty = block_type(name);
    let plain = golden.recorded(name, "plain").map(|(bytes, _)| bytes);
    let weighted = golden.recorded(name, "weighted").map(|(bytes, _)| bytes);
    // An encoder that ignores the importance vector writes the plain bytes when it is given one.
    let weighted = if ty.importance == Importance::Ignored { plain.clone() } else { weighted };
    let weighted = weighted.unwrap_or_else(|| panic!("no weighted bytes of {name} are recorded"));
    match plain {
        Some(plain) => {
            Isa::available().into_iter().for_each(|isa| compare_rows(isa, &golden, ty, None, &plain))
        }
        None => assert_eq!(ty.importance, Importance::Required, "no plain bytes of {name} are recorded"),
    }
    for isa in Isa::available() {
        compare_rows(isa, &golden, ty, Some(&golden.importance), &weighted);
    }
}

fn compare_rows(isa: Isa, golden: &Golden, ty: &BlockType, importance: Option<&[f32]>, expected: &[u8]) {
    let encode = ty.encode.unwrap_or_else(|| panic!("{} has no encoder", ty.name));
    let way = if importance.is_some() { "weighted" } else { "plain" };
    let row_bytes = golden.row_bytes(ty);
    assert_eq!(expected.len(), golden.row_names.len() * row_bytes);
    let rows = golden.input.chunks(golden.columns).zip(expected.chunks(row_bytes)).zip(&golden.row_names);
    let mut differing = Vec::new();
    for ((weights, expected), row_name) in rows {
        // The bytes are filled, so that one that the encoder leaves alone shows.
        let mut bytes = vec![0xa5; row_bytes];
        encode(isa, weights, importance, &mut bytes);
        let mut blocks = bytes.chunks(ty.bytes).zip(expected.chunks(ty.bytes));
        if let Some(block) = blocks.position(|(ours, theirs)| ours != theirs) {
            let at = block * ty.bytes..(block + 1) * ty.bytes;
            differing.push(format!(
                "row {row_name}, block {block}:\n  ours {}\n  ggml {}",
                hex(&bytes[at.clone()]),
                hex(&expected[at])
            ));
        }
    }
    assert!(
        differing.is_empty(),
        "{} {way} {isa:?}: {} of {} rows differ\n{}",
        ty.name,
        differing.len(),
        golden.row_names.len(),
        differing.join("\n")
    );
}

/// Stamps the tests of one type per name.
macro_rules! golden_types {
    (written: $($written:ident)*; read_only: $($read:ident)*;) => {
        $(
            mod $written {
                #[test]
                fn shape() {
                    super::check_shape(stringify!($written));
                }

                #[test]
                fn decode() {
                    super::check_decode(stringify!($written));
                }

                #[test]
                fn encode() {
                    super::check_encode(stringify!($written));
                }
            }
        )*
        $(
            mod $read {
                #[test]
                fn shape() {
                    super::check_shape(stringify!($read));
                }

                #[test]
                fn decode() {
                    super::check_decode(stringify!($read));
                }

                #[test]
                fn has_no_encoder() {
                    assert!(super::block_type(stringify!($read)).encode.is_none());
                }
            }
        )*
        const STAMPED: &[&str] = &[$(stringify!($written),)* $(stringify!($read),)*];
    };
}

golden_types! {
    written: f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs tq1_0 tq2_0 mxfp4 nvfp4 q1_0 q2_0 iq2_xxs iq2_xs iq2_s
        iq3_xxs iq3_s iq1_s iq1_m;
    read_only: ;
}

/// Every recorded type must have its tests, and every tested type must be recorded.
#[test]
fn every_recorded_type_is_stamped() {
    let golden = Golden::load();
    let recorded: BTreeSet<&str> =
        golden.manifest["types"].as_object().unwrap().keys().map(String::as_str).collect();
    let stamped: BTreeSet<&str> = STAMPED.iter().copied().collect();
    assert_eq!(recorded, stamped);
}
