//! Whole passes over small checkpoints: what they refuse, what they give, and that the machine changes no byte of it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::{Channels, PruneError, PrunedChannels, Score, channels};
use crate::context::{Context, Silent};
use crate::evaluate::compare_rows;
use crate::job::{Cut, TextFile};
use crate::model::Model;
use crate::statistics::Fishers;
use crate::tensor::Stash;
use crate::text::Chunks;

const MEMORY: u64 = 1 << 30;

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The first `count` chunks of 64 tokens of a text.
fn chunks(model: &Model, text: &str, count: usize) -> Chunks {
    let cut = Cut { context: Some(64), chunks: Some(count) };
    TextFile::read(&data("corpora").join(text)).unwrap().chunks(model, cut).unwrap()
}

fn fishers(model: &Model, chunks: &Chunks) -> Fishers {
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

/// Mean KL divergence from `model` of the same model with the weights of `stash`, in nats per token.
fn divergence(model: &Model, stash: &Stash, chunks: &Chunks) -> f64 {
    let logits = |replaced: Option<&Stash>| {
        let stages = model.stages(chunks.context()).unwrap();
        let row = |token, out: &mut [f32]| model.embedding_row(token, out);
        let mut state = vec![model.embed_by(chunks.tokens(), 0, chunks.context(), row).unwrap()];
        for stage in stages.layers().iter().flatten() {
            let bound = stages.bind(stage, replaced.map(|stash| stash as _)).unwrap();
            state = stages.run(&bound, 0, state).unwrap();
        }
        let head = model.head(MEMORY).unwrap();
        head.logits(&head.normed(&state.concat())).unwrap()
    };
    let (base, pruned) = (logits(None), logits(Some(stash)));
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
            width,
            score: Score::SecondOrder,
            repair_others: true,
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

#[test]
fn the_second_order_costs_less_than_wanda_on_other_text() {
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let (train, other) = (chunks(&model, "calibration-small.txt", 128), chunks(&model, "eval-small.txt", 16));
    let fishers = fishers(&model, &train);
    let kl = |score, fishers, repair_others| {
        let job = Channels { model: &model, chunks: &train, fishers, width: 576, score, repair_others };
        divergence(&model, &run(&job, MEMORY).unwrap().stash, &other)
    };
    let wanda = kl(Score::Wanda, None, false);
    let second_order = kl(Score::SecondOrder, Some(&fishers), false);
    let repaired = kl(Score::SecondOrder, Some(&fishers), true);
    let told = format!("wanda {wanda}, second order {second_order}, repaired {repaired}");
    assert!(second_order < 0.45 * wanda && repaired < 1.02 * second_order, "{told}");
}

#[test]
fn widths_and_families_that_cannot_be_are_refused_by_name() {
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let chunks = chunks(&model, "calibration-small.txt", 2);
    for width in [0, 100, 768, 769, usize::MAX] {
        let (score, fishers, repair_others) = (Score::Wanda, None, false);
        let job = Channels { model: &model, chunks: &chunks, fishers, width, score, repair_others };
        assert!(matches!(run(&job, MEMORY), Err(PruneError::Width { channels: 768, .. })), "{width}");
    }
    for name in ["archs/mixtral", "archs/gpt_oss", "archs/deepseek_v3"] {
        let error = channels(&Model::open(&data(name), None).unwrap()).unwrap_err().to_string();
        assert!(error.contains("_exps") && error.contains("experts cannot be pruned yet"), "{error}");
    }
}
