//! Folders written of small checkpoints: what was not changed comes back bit by bit, and what was pruned is the same model as
//! its GGUF.

mod modalities;
mod parts;
mod vocabularies;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kquant_formats::safetensors::SafeTensors;

use super::{FolderError, NewFolder, write};
use crate::checkpoint::{Opened, archs, open};
use crate::context::{Context, Silent};
use crate::convert::{Converted, convert};
use crate::tensor::{Stash, read_rows};
use crate::transform::{narrow, order, trim};
use crate::vocab::Tokenizer;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Folders of small checkpoints, but for those with recurrent layers.
fn folders() -> Vec<PathBuf> {
    let [mut supported, _] = archs::supported_and_pending();
    supported.retain(|folder| opened(folder).1.recurrent().is_none());
    supported.push(data("tiny-llama"));
    supported
}

/// Checks several folders at once, as most of the time goes by waiting for the disk; `check` gets a folder and where to write.
/// Returns how many of them were checked.
fn each_folder(check: impl Fn(&PathBuf, &Path) -> bool + Sync) -> usize {
    let (scratch, folders) = (tempfile::tempdir().unwrap(), folders());
    let (next, checked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(folder) = folders.get(number) else { break };
                    let out = scratch.path().join(number.to_string());
                    checked.fetch_add(usize::from(check(folder, &out)), Ordering::Relaxed);
                }
            });
        }
    });
    checked.into_inner()
}

fn opened(folder: &Path) -> (Opened, Converted) {
    let opened = open(folder).unwrap();
    let base = convert(&opened, None, None).unwrap();
    (opened, base)
}

/// Writes `changed`, made of `source`, to `out` with `memory` bytes.
fn written(
    source: &Opened,
    base: &Converted,
    changed: &Converted,
    out: &Path,
    memory: u64,
) -> Result<(), FolderError> {
    let plan = NewFolder::new(source, base, changed, None)?;
    let run = Context { memory, cancel: &AtomicBool::new(false), progress: &Silent };
    write(&plan, (source, changed), None, out, &run).map(drop)
}

/// All weights of a converted tensor.
fn weights(opened: &Opened, model: &Converted, name: &str) -> Vec<u32> {
    let tensor = model.tensors.iter().find(|t| t.name == name).unwrap();
    let mut out = vec![0.0; tensor.weights() as usize];
    read_rows(opened.checkpoint.as_ref(), tensor, 0..tensor.rows(), &mut out).unwrap();
    out.into_iter().map(f32::to_bits).collect()
}

/// Asserts that `folder` is converted to the weights of `changed`, which was made of `source`.
fn assert_same(folder: &Path, source: &Opened, changed: &Converted) {
    let (again, model) = opened(folder);
    assert_eq!(model.tensors.len(), changed.tensors.len());
    for tensor in &changed.tensors {
        let (expected, found) =
            (weights(source, changed, &tensor.name), weights(&again, &model, &tensor.name));
        assert!(expected == found, "{}: {}", folder.display(), tensor.name);
    }
}

#[test]
fn recurrent_layers_are_refused_by_name() {
    for (name, family) in [("lfm2", "lfm2"), ("qwen3_5", "qwen35"), ("mamba2", "mamba2")] {
        let (source, base) = opened(&data("archs").join(name));
        let error = NewFolder::new(&source, &base, &base, None).unwrap_err().to_string();
        assert!(error.contains(&format!("`{family}`")) && error.contains("-o FILE.gguf"), "{error}");
    }
}

#[test]
fn an_unchanged_model_comes_back_bit_by_bit() {
    each_folder(|folder, out| {
        let (source, base) = opened(folder);
        // Little memory cuts tensors into many pieces.
        written(&source, &base, &base, out, 1 << 15).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let [before, after] = [folder.as_path(), out].map(|path| SafeTensors::open(path).unwrap());
        let mut left = after.tensors().len();
        for (index, tensor) in before.tensors().iter().enumerate() {
            let Some(found) = after.tensors().iter().position(|t| t.name == tensor.name) else {
                // Layers that predict further tokens are in no GGUF.
                assert!(
                    folder.ends_with("deepseek_v3") && tensor.name.contains("layers.3."),
                    "{}",
                    tensor.name
                );
                continue;
            };
            let other = &after.tensors()[found];
            assert_eq!((&other.shape, other.dtype), (&tensor.shape, tensor.dtype));
            assert!(
                before.data(index).unwrap() == after.data(found).unwrap(),
                "{}: {}",
                folder.display(),
                tensor.name
            );
            left -= 1;
        }
        assert_eq!(left, 0, "{}: tensors that were not there", folder.display());
        let [before, after] = [folder.as_path(), out].map(|path| {
            let text = std::fs::read_to_string(path.join("config.json")).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        });
        assert_eq!(before, after);
        true
    });
}

#[test]
fn a_narrower_model_is_the_same_in_a_folder() {
    let families = each_folder(|folder, out| {
        let (source, base) = opened(folder);
        let down =
            |layer: usize| base.tensors.iter().find(|t| t.name == format!("blk.{layer}.ffn_down.weight"));
        let kept: Vec<Arc<[u32]>> = (0..)
            .map_while(down)
            .map(|down| (0..down.columns() as u32).filter(|channel| channel / 32 % 2 == 1).collect())
            .collect();
        let all =
            base.metadata.iter().find(|(key, _)| key.ends_with(".block_count")).unwrap().1.as_u64().unwrap();
        // Layers without the network, or with networks of several widths, cannot be narrowed alike.
        if kept.len() as u64 != all || kept.iter().any(|channels| channels.len() != kept[0].len()) {
            return false;
        }
        let narrowed = narrow(&base, &kept, &Arc::new(Stash::new(0))).unwrap();
        written(&source, &base, &narrowed, out, 1 << 14)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        assert_same(out, &source, &narrowed);
        true
    });
    assert!(families > 8, "{families} families without experts");
}

#[test]
fn fewer_tokens_are_the_same_in_a_folder() {
    let text = std::fs::read_to_string(data("corpora/calibration-small.txt")).unwrap();
    let text: String = text.chars().take(1500).collect();
    each_folder(|folder, out| {
        let (source, base) = opened(folder);
        let before = Tokenizer::from_metadata(&base.metadata).unwrap();
        let mut counts = vec![0; before.vocab_size()];
        before.encode(&text, false).unwrap().iter().for_each(|&id| counts[id as usize] += 1);
        let order = order(&base.metadata, &before, &[], &counts, &[]);
        let kept = order.of_text.min(before.vocab_size() - 8);
        let trimmed = trim(&base, &order.ids[..kept.max(order.indispensable)]).unwrap();
        written(&source, &base, &trimmed, out, 1 << 20)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        assert_same(out, &source, &trimmed);
        let after = convert(&open(out).unwrap(), None, None).unwrap();
        let [folder, gguf] = [&after, &trimmed].map(|m| Tokenizer::from_metadata(&m.metadata).unwrap());
        assert_eq!(folder.vocab_size(), kept);
        assert_eq!(folder.encode(&text, true).unwrap(), gguf.encode(&text, true).unwrap());
        true
    });
}
