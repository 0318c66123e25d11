//! Whole passes over small checkpoints that cut channels and heads: what they refuse, what they give, and that the machine changes no byte of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Channels, Columns, LayerChoice, PruneError, PrunedChannels, Score, channels, head_groups_left};
use crate::context::{Context, Silent};
use crate::convert::Converted;
use crate::encode::ENCODERS;
use crate::evaluate::compare_rows;
use crate::job::{Cut, Job, Outputs, Resources, Statistics, TextFile, Types, prepare_changed};
use crate::model::{Logits, Model};
use crate::recipe::{Options, file_type};
use crate::statistics::Fishers;
use crate::tensor::Stash;
use crate::text::Chunks;
use crate::transform::{keep_heads, narrow};

pub(super) const MEMORY: u64 = 1 << 30;

pub(super) fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The first `count` chunks of 64 tokens of a text.
pub(super) fn chunks(model: &Model, text: &str, count: usize) -> Chunks {
    let cut = Cut { context: Some(64), chunks: Some(count) };
    TextFile::read(&data("corpora").join(text)).unwrap().chunks(model, cut).unwrap()
}

pub(super) fn fishers(model: &Model, chunks: &Chunks) -> Fishers {
    Fishers::collect(model, chunks, MEMORY, 0, &AtomicBool::new(false), &Silent).unwrap()
}

fn run(job: &Channels, memory: u64) -> Result<PrunedChannels, PruneError> {
    job.run(&Context { memory, cancel: &AtomicBool::new(false), progress: &Silent })
}

/// Names and bytes of what a pass has changed.
fn bytes(model: &Model, stash: &Stash) -> Vec<(String, Vec<u8>)> {
    let tensors = model.converted().tensors.iter().filter(|t| stash.contains(&t.name));
    tensors.map(|t| (t.name.clone(), stash.rows(&t.name, 0..t.rows()).unwrap().unwrap())).collect()
}

/// Logits of all tokens of `chunks` by `model`, with the weights of `replaced` in the place of its own.
pub(super) fn logits(model: &Model, replaced: Option<&Stash>, chunks: &Chunks) -> Logits {
    let stages = model.stages(chunks.context()).unwrap();
    let row = |token, out: &mut [f32]| model.embedding_row(token, out);
    let mut state = vec![model.embed_by(chunks.tokens(), 0, chunks.context(), row).unwrap()];
    for stage in stages.layers().iter().flatten() {
        let bound = stages.bind(stage, replaced.map(|stash| stash as _)).unwrap();
        state = stages.run(&bound, 0, state).unwrap();
    }
    let head = model.head(MEMORY).unwrap();
    head.logits(&head.normed(&state.concat())).unwrap()
}

/// Mean KL divergence from `model` of the same model with the weights of `stash`, in nats per token.
fn divergence(model: &Model, stash: &Stash, chunks: &Chunks) -> f64 {
    let (base, pruned) = (logits(model, None, chunks), logits(model, Some(stash), chunks));
    let tokens = chunks.tokens().len();
    let (mut a, mut b) = (vec![0.0; model.vocab_size()], vec![0.0; model.vocab_size()]);
    let of = |i: usize| {
        base.row(i, &mut a);
        pruned.row(i, &mut b);
        compare_rows(&a, &b, 0).unwrap().kl
    };
    (0..tokens).map(of).sum::<f64>() / tokens as f64
}

#[test]
fn threads_and_memory_change_no_byte() {
    // Families without biases and with them.
    for (name, width) in [("tiny-llama", 576), ("archs/gpt2", 192)] {
        let model = Model::open(&data(name), None).unwrap();
        let chunks = chunks(&model, "calibration-small.txt", 20);
        let fishers = fishers(&model, &chunks);
        let job = Channels {
            model: &model,
            chunks: &chunks,
            fishers: Some(&fishers),
            columns: Columns::Channels,
            width,
            score: Score::SecondOrder,
        };
        let Err(PruneError::Memory { needed, .. }) = run(&job, 1 << 10) else { panic!("{name} fits 1 KiB") };
        assert!(
            matches!(run(&job, needed - 1), Err(PruneError::Memory { needed: again, .. }) if again == needed)
        );
        let made = |threads: usize, memory: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let pruned = pool.install(|| run(&job, memory)).unwrap();
            (bytes(&model, &pruned.stash), pruned.layers)
        };
        let expected = made(1, MEMORY);
        assert!(made(2, MEMORY) == expected, "{name}: threads");
        assert!(made(2, needed) == expected, "{name}: memory");

        let down = model.find("blk.1.ffn_down.weight").unwrap();
        let (_, weight) = expected.0.iter().find(|(name, _)| *name == down.name).unwrap();
        let row = &weight.as_chunks().0[..down.columns() as usize];
        let kept: Vec<usize> = (0..row.len()).filter(|&j| f32::from_le_bytes(row[j]) != 0.0).collect();
        assert_eq!((&kept, kept.len()), (&expected.1[1].kept, width), "{name}");
        let biases = expected.0.iter().any(|(name, _)| name == "blk.1.ffn_down.bias");
        assert_eq!(biases, name == "archs/gpt2");
    }
}

/// Opens what is left of the checkpoint at `path`, written as an F32 GGUF.
pub(super) fn written(path: &Path, left: Converted) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("left.gguf");
    write(path, left, &out);
    Model::open(&out, None).unwrap()
}

/// Asserts that both give the same logits of all tokens of `chunks`, but for sums of fewer terms in another order.
pub(super) fn assert_close(expected: &Logits, found: &Logits, chunks: &Chunks, what: &Path) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for token in 0..chunks.tokens().len() {
        expected.row(token, &mut a);
        found.row(token, &mut b);
        let most = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        // Another channel, head, layer or expert would cost whole units.
        assert!(a.len() == b.len() && most <= 1e-4, "{}: token {token}: {most}", what.display());
    }
}

/// The small models of all families that predict tokens.
pub(super) fn archs() -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> =
        std::fs::read_dir(data("archs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|folder| folder.join("logits.f32").exists());
    all.sort();
    all
}

#[test]
fn a_narrower_model_computes_what_zeros_in_the_old_shape_do() {
    let mut families = [0; 2];
    for path in archs().into_iter().chain([data("tiny-llama")]) {
        let model = Model::open(&path, None).unwrap();
        let chunks = chunks(&model, "calibration-small.txt", 4);
        let heads = head_groups_left(&model, model.hyper.kv_heads / 2);
        let widths = [
            (Columns::Channels, channels(&model).map(|width| width as usize / 64 * 32)),
            (Columns::HeadGroups, heads.map(|left| left * Columns::HeadGroups.block(&model))),
        ];
        for (columns, width) in widths {
            let Ok(width) = width else { continue };
            families[columns as usize] += 1;
            let (score, fishers) = (Score::SecondOrder, None);
            let job = Channels { model: &model, chunks: &chunks, fishers, columns, width, score };
            let pruned = run(&job, MEMORY).unwrap();
            let expected = logits(&model, Some(&pruned.stash), &chunks);
            let block = columns.block(&model);
            let blocks = |l: &LayerChoice| -> Arc<[u32]> {
                l.kept.iter().step_by(block).map(|&column| (column / block) as u32).collect()
            };
            let kept: Vec<Arc<[u32]>> = pruned.layers.iter().map(blocks).collect();
            let stash = Arc::new(pruned.stash);
            let left = match columns {
                Columns::Channels => narrow(model.converted(), &kept, &stash).unwrap(),
                Columns::HeadGroups => keep_heads(model.converted(), &kept, &stash).unwrap(),
            };
            let left = written(&path, left);
            match columns {
                Columns::Channels => assert_eq!(channels(&left).unwrap(), width as u64, "{}", path.display()),
                Columns::HeadGroups => assert_eq!(left.hyper.kv_heads * block, width, "{}", path.display()),
            }
            assert_close(&expected, &logits(&left, None, &chunks), &chunks, &path);
        }
    }
    assert!(families[0] > 8 && families[1] > 5, "{families:?} families");
}

/// Writes `changed`, made of the checkpoint at `path`, as an F32 GGUF.
fn write(path: &Path, changed: Converted, out: &Path) {
    let job = Job {
        model: path.to_owned(),
        types: Types::FileType(Options::new(file_type("F32").unwrap())),
        statistics: Statistics::None,
        encoder: ENCODERS[0],
        metadata: None,
        overrides: Vec::new(),
        keep_split: false,
        pre: None,
    };
    let outputs = Outputs { model: out.to_owned(), manifest: None, report: None, force: false };
    let resources = Resources { memory: MEMORY, threads: 1 };
    let prepared = prepare_changed(job, |_| changed).unwrap();
    prepared.run(None, &outputs, &resources, &AtomicBool::new(false), &Silent).unwrap();
}

#[test]
fn the_second_order_costs_less_than_wanda_on_other_text() {
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let (train, other) = (chunks(&model, "calibration-small.txt", 128), chunks(&model, "eval-small.txt", 16));
    let fishers = fishers(&model, &train);
    let kl = |score, fishers| {
        let job = Channels {
            model: &model,
            chunks: &train,
            fishers,
            columns: Columns::Channels,
            width: 576,
            score,
        };
        divergence(&model, &run(&job, MEMORY).unwrap().stash, &other)
    };
    let wanda = kl(Score::Wanda, None);
    let second_order = kl(Score::SecondOrder, Some(&fishers));
    assert!(second_order < 0.45 * wanda, "wanda {wanda}, second order {second_order}");
}

#[test]
fn widths_and_families_that_cannot_be_are_refused_by_name() {
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let chunks = chunks(&model, "calibration-small.txt", 2);
    for width in [0, 100, 768, 769, usize::MAX] {
        let (score, fishers) = (Score::Wanda, None);
        let job =
            Channels { model: &model, chunks: &chunks, fishers, columns: Columns::Channels, width, score };
        assert!(matches!(run(&job, MEMORY), Err(PruneError::Width { channels: 768, .. })), "{width}");
    }
    for name in ["archs/mixtral", "archs/gpt_oss", "archs/deepseek_v3"] {
        let error = channels(&Model::open(&data(name), None).unwrap()).unwrap_err().to_string();
        assert!(error.contains("_exps") && error.contains("experts cannot be pruned yet"), "{error}");
    }
}

#[test]
fn heads_that_cannot_be_cut_are_refused_by_name() {
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let groups = model.hyper.kv_heads;
    for cut in [0, groups, groups + 1] {
        assert!(matches!(head_groups_left(&model, cut), Err(PruneError::HeadCount { .. })), "{cut}");
    }
    for name in ["archs/gpt2", "archs/olmo2", "archs/deepseek_v3", "archs/phi3"] {
        let model = Model::open(&data(name), None).unwrap();
        let error = head_groups_left(&model, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("`{}`", model.hyper.architecture)), "{error}");
    }
}
