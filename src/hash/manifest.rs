//! Manifests of kquant (JSON) and of gguf-hash (lines), and the comparison of a GGUF with its manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kquant_formats::{FormatError, json, whole};
use serde::{Deserialize, Serialize};

use super::Digest;

/// A file that an output was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Name of the file, without its folder.
    pub name: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file, in lower-case hexadecimal.
    pub sha256: String,
}

/// kquant's manifest of an output: everything needed to check the output and to make it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of kquant that wrote the output.
    pub kquant: String,
    /// SHA-256 of the plan in lower-case hexadecimal; equal plans give equal bytes.
    pub plan_sha256: String,
    /// Options that the output depends on.
    pub options: serde_json::Value,
    /// Files that the output was made from.
    pub sources: Vec<SourceFile>,
    /// Hashes of the files of the output, in the order of the shards.
    pub files: Vec<Digest>,
}

/// The reason why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest cannot be read.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The manifest is neither kquant's JSON nor lines of gguf-hash, or contradicts itself.
    #[error("{path}: {what}")]
    Malformed {
        /// Path of the manifest.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        what: String,
    },
}

/// SHA-256 hashes that a manifest expects of a GGUF, in hexadecimal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Hashes by name of tensor; empty if the manifest lists no tensors, which are then not compared.
    pub tensors: BTreeMap<String, String>,
    /// Hashes of whole files, in the order of the shards; empty if the manifest lists none.
    pub files: Vec<String>,
    /// Hashes of each file's metadata, in the order of the shards; empty if the manifest lists none.
    pub metadata: Vec<String>,
    /// Hashes of each file's tensor data, in the order of the shards; empty if the manifest lists none.
    pub data: Vec<String>,
}

/// One difference between a GGUF and its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "lowercase")]
pub enum Difference {
    /// Manifest and GGUF give different hashes for the same tensor or part.
    Mismatch {
        /// The tensor, or the part of the GGUF.
        what: String,
        /// Hash in the manifest.
        expected: String,
        /// Hash of the GGUF's bytes.
        actual: String,
    },
    /// The manifest lists a tensor or part that the GGUF lacks.
    Missing {
        /// The tensor, or the part of the GGUF.
        what: String,
    },
    /// The GGUF has a tensor or part that the manifest does not list.
    Extra {
        /// The tensor, or the part of the GGUF.
        what: String,
    },
}

impl Expected {
    /// Reads the manifest at `path`: as kquant's JSON if it starts with `{`, otherwise as lines of gguf-hash.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is not UTF-8, breaks the form, lists a tensor twice, or lists nothing to compare;
    /// faults of a line give its number.
    pub fn open(path: &Path) -> Result<Self, ManifestError> {
        let malformed = |what| ManifestError::Malformed { path: path.to_owned(), what };
        let text = String::from_utf8(whole::read(path, whole::LIST)?)
            .map_err(|e| malformed(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
        let text = text.trim_start_matches('\u{feff}');
        let parsed = if text.trim_start().starts_with('{') { from_json(text) } else { from_lines(text) };
        parsed.map_err(malformed)
    }
}

fn from_json(text: &str) -> Result<Expected, String> {
    let manifest: Manifest = json::parse(text.as_bytes())
        .map_err(|e| format!("not a kquant manifest: {e}. Write one with --manifest"))?;
    let mut expected = Expected::default();
    for file in manifest.files {
        expected.files.push(file.sha256);
        expected.metadata.push(file.metadata_sha256);
        expected.data.push(file.data_sha256);
        for tensor in file.tensors {
            insert_tensor(&mut expected, tensor.name, tensor.sha256)?;
        }
    }
    if expected.files.is_empty() {
        return Err("the manifest lists no file".into());
    }
    Ok(expected)
}

fn insert_tensor(expected: &mut Expected, name: String, sha256: String) -> Result<(), String> {
    match expected.tensors.insert(name.clone(), sha256) {
        None => Ok(()),
        Some(_) => Err(format!("lists tensor `{name}` twice")),
    }
}

/// Reads lines `KIND HEX FILE:TENSOR` (a tensor) or `KIND HEX FILE` (tensor data, metadata or a whole file), as `kquant hash`
/// and gguf-hash print them. Blank lines, lines that start with `#` and other kinds of hash are skipped.
fn from_lines(text: &str) -> Result<Expected, String> {
    let mut expected = Expected::default();
    for (number, line) in
        text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'))
    {
        let fields = line.split_once(char::is_whitespace).and_then(|(kind, rest)| {
            let (hex, name) = rest.trim_start().split_once(char::is_whitespace)?;
            Some((kind, hex.to_ascii_lowercase(), name.trim()))
        });
        let Some((kind, hex, name)) = fields else {
            return Err(format!("line {}: expected `sha256 HEX FILE:TENSOR`, found `{line}`", number + 1));
        };
        let list = match kind {
            "sha256" => match name.rsplit_once(':').filter(|(_, tensor)| !tensor.contains(['/', '\\'])) {
                Some((_, tensor)) => {
                    insert_tensor(&mut expected, tensor.to_owned(), hex)
                        .map_err(|e| format!("line {}: {e}", number + 1))?;
                    continue;
                }
                None => &mut expected.data,
            },
            "sha256-file" => &mut expected.files,
            "sha256-metadata" => &mut expected.metadata,
            _ => continue,
        };
        list.push(hex);
    }
    if expected == Expected::default() {
        return Err("holds no sha256 lines; make it with `kquant hash` or `gguf-hash --sha256`".into());
    }
    Ok(expected)
}

/// Returns every difference between a GGUF, of which `files` are all files in the order of the shards, and its manifest.
/// Parts of which the manifest lists no hash are not compared.
pub fn compare(expected: &Expected, files: &[Digest]) -> Vec<Difference> {
    let mut differences = Vec::new();
    let actual: BTreeMap<&str, &str> =
        files.iter().flat_map(|f| &f.tensors).map(|t| (t.name.as_str(), t.sha256.as_str())).collect();
    if !expected.tensors.is_empty() {
        for (name, hash) in &expected.tensors {
            let what = format!("tensor `{name}`");
            differences.extend(difference(what, Some(hash), actual.get(name.as_str()).copied()));
        }
        for name in actual.keys().filter(|name| !expected.tensors.contains_key(**name)) {
            differences.push(Difference::Extra { what: format!("tensor `{name}`") });
        }
    }
    let mut part = |part: &str, hashes: &[String], of: fn(&Digest) -> &str| {
        let count = hashes.len().max(files.len());
        for i in (0..count).filter(|_| !hashes.is_empty()) {
            let what = if count > 1 { format!("{part} {}", i + 1) } else { part.to_owned() };
            differences.extend(difference(what, hashes.get(i).map(String::as_str), files.get(i).map(of)));
        }
    };
    part("tensor data", &expected.data, |f| &f.data_sha256);
    part("metadata", &expected.metadata, |f| &f.metadata_sha256);
    part("file", &expected.files, |f| &f.sha256);
    differences
}

fn difference(what: String, expected: Option<&str>, actual: Option<&str>) -> Option<Difference> {
    match (expected, actual) {
        (Some(e), Some(a)) if e == a => None,
        (Some(e), Some(a)) => {
            Some(Difference::Mismatch { what, expected: e.to_owned(), actual: a.to_owned() })
        }
        (Some(_), None) => Some(Difference::Missing { what }),
        (None, _) => Some(Difference::Extra { what }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TensorDigest;
    use super::*;

    fn file(tensors: &[(&str, &str)]) -> Digest {
        let tensors = tensors
            .iter()
            .map(|(name, hash)| TensorDigest {
                name: (*name).into(),
                kind: "F32".into(),
                bytes: 4,
                sha256: (*hash).into(),
            })
            .collect();
        Digest {
            path: "a.gguf".into(),
            bytes: 1,
            sha256: "f".into(),
            metadata_sha256: "e".into(),
            data_sha256: "d".into(),
            tensors,
        }
    }

    #[test]
    fn lines_of_gguf_hash_and_of_kquant() {
        let text = "xxh64     0011  a b.gguf:t\nsha256    AA  a b.gguf:t\nsha256    bb  a b.gguf\nsha256-metadata  cc  a b.gguf\n";
        let expected = from_lines(text).unwrap();
        assert_eq!(expected.tensors, BTreeMap::from([("t".into(), "aa".into())]));
        assert_eq!(
            (expected.data, expected.metadata, expected.files),
            (vec!["bb".into()], vec!["cc".into()], vec![])
        );
    }

    #[test]
    fn one_listed_tensor_does_not_vouch_for_the_others() {
        let expected = from_lines("sha256 1 x:a\nsha256 2 x:gone\n").unwrap();
        let found = compare(&expected, &[file(&[("a", "1"), ("b", "2")])]);
        assert_eq!(
            found,
            [
                Difference::Missing { what: "tensor `gone`".into() },
                Difference::Extra { what: "tensor `b`".into() }
            ]
        );
    }

    #[test]
    fn a_changed_tensor_and_changed_metadata_are_named() {
        let expected = from_lines("sha256 9 x:a\nsha256-metadata 0 x\nsha256 d x\n").unwrap();
        let found = compare(&expected, &[file(&[("a", "1")])]);
        assert!(
            matches!(&found[..], [Difference::Mismatch { what: a, .. }, Difference::Mismatch { what: b, .. }]
            if a == "tensor `a`" && b == "metadata")
        );
    }

    #[test]
    fn useless_manifests_are_refused() {
        assert!(from_lines("xxh64 00 a:b\n").unwrap_err().contains("no sha256 lines"));
        assert!(from_lines("sha256 00\n").unwrap_err().contains("line 1"));
        assert!(from_lines("sha256 00 a:b\nsha256 00 a:b\n").unwrap_err().contains("line 2"));
        assert!(from_json("{}").unwrap_err().contains("not a kquant manifest"));
    }
}
