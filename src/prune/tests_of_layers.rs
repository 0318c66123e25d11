//! Choices of layers on small models.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::tests_of_runs::{MEMORY, archs, assert_close, chunks, data, logits, written};
use super::{LayerScore, Layers, PruneError, PrunedLayers, layers_at_a_time};
use crate::context::{Context, Silent};
use crate::model::{Logits, Model};
use crate::tensor::Stash;
use crate::text::Chunks;
use crate::transform::{changed, keep_layers, period};

fn run(job: &Layers, memory: u64) -> Result<PrunedLayers, PruneError> {
    job.run(&Context { memory, cancel: &AtomicBool::new(false), progress: &Silent })
}

/// Logits of all tokens of `chunks` by the layers `kept` of `model` alone, with the weights of `replaced` in the place of its own.
fn logits_of(model: &Model, kept: &[u32], replaced: Option<&Stash>, chunks: &Chunks) -> Logits {
    let stages = model.stages(chunks.context()).unwrap();
    let row = |token, out: &mut [f32]| model.embedding_row(token, out);
    let mut state = vec![model.embed_by(chunks.tokens(), 0, chunks.context(), row).unwrap()];
    for stage in kept.iter().flat_map(|&layer| &stages.layers()[layer as usize]) {
        let bound = stages.bind(stage, replaced.map(|stash| stash as _)).unwrap();
        state = stages.run(&bound, 0, state).unwrap();
    }
    let head = model.head(MEMORY).unwrap();
    head.logits(&head.normed(&state.concat())).unwrap()
}

#[test]
fn a_shorter_model_computes_what_its_layers_do() {
    let mut families = 0;
    for path in archs() {
        let model = Model::open(&path, None).unwrap();
        let (layers, period) = (model.hyper.layers as u32, period(model.converted()).unwrap() as u32);
        if period == layers {
            continue;
        }
        families += 1;
        let chunks = chunks(&model, "calibration-small.txt", 2);
        // Those in the middle, as far as there is one.
        let first = (layers - period) / 2;
        let kept: Vec<u32> = (0..layers).filter(|&l| l < first || l >= first + period).collect();
        let left = written(&path, keep_layers(model.converted(), &kept).unwrap());
        assert_eq!(left.hyper.layers, kept.len(), "{}", path.display());
        let expected = logits_of(&model, &kept, None, &chunks);
        assert_close(&expected, &logits(&left, None, &chunks), &chunks, &path);
    }
    assert!(families > 8, "{families} families");
}

#[test]
fn the_cheapest_layer_goes_and_the_others_make_up_for_it() {
    for (name, least) in [("tiny-llama", 0.9), ("archs/gpt2", 1.0)] {
        let path = data(name);
        let model = Model::open(&path, None).unwrap();
        let chunks = chunks(&model, "calibration-small.txt", 32);
        let job = Layers { model: &model, chunks: &chunks, cut: 1, score: LayerScore::Divergence };
        let pruned = run(&job, MEMORY).unwrap();
        assert_eq!(pruned.costs.len(), model.hyper.layers);
        let cheapest = pruned.costs.iter().min_by(|a, b| a.kl.unwrap().total_cmp(&b.kl.unwrap())).unwrap();
        assert!(!pruned.kept.contains(&cheapest.first) && pruned.kept.len() + 1 == model.hyper.layers);
        let made_up = pruned.made_up.unwrap();
        assert!(made_up.kl < least * made_up.kl_before, "{name}: {made_up:?}");
        let stash = Arc::new(pruned.stash.unwrap());
        let left = keep_layers(&changed(model.converted(), &stash), &pruned.kept).unwrap();
        let expected = logits_of(&model, &pruned.kept, Some(&stash), &chunks);
        assert_close(&expected, &logits(&written(&path, left), None, &chunks), &chunks, &path);
    }
}

#[test]
fn threads_and_memory_change_no_byte() {
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let chunks = chunks(&model, "calibration-small.txt", 24);
    let job = Layers { model: &model, chunks: &chunks, cut: 1, score: LayerScore::Divergence };
    let made = |threads: usize, memory: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let pruned = pool.install(|| run(&job, memory)).unwrap();
        let stash = pruned.stash.unwrap();
        let tensors = model.converted().tensors.iter().filter(|t| stash.contains(&t.name));
        let bytes: Vec<_> = tensors.map(|t| stash.rows(&t.name, 0..t.rows()).unwrap().unwrap()).collect();
        assert!(!bytes.is_empty());
        (pruned.kept, pruned.costs, pruned.made_up, bytes)
    };
    let Err(PruneError::Memory { needed, .. }) = run(&job, 1 << 10) else { panic!("it fits 1 KiB") };
    assert!(run(&job, needed - 1).is_err());
    let expected = made(1, MEMORY);
    assert!(made(2, MEMORY) == expected, "threads");
    assert!(made(2, needed) == expected, "memory");
}

#[test]
fn numbers_of_layers_that_cannot_be_are_refused() {
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    for cut in [0, model.hyper.layers, model.hyper.layers + 1] {
        assert!(matches!(layers_at_a_time(&model, cut), Err(PruneError::LayerCount { .. })), "{cut}");
    }
    let model = Model::open(&data("archs/gemma2"), None).unwrap();
    let error = layers_at_a_time(&model, 1).unwrap_err().to_string();
    assert!(error.contains("`gemma2`") && error.contains("multiples of 2"), "{error}");
}

#[test]
fn shortgpt_takes_the_layer_that_turns_the_stream_least() {
    let model = Model::open(&data("archs/llama"), None).unwrap();
    let chunks = chunks(&model, "calibration-small.txt", 4);
    let job = Layers { model: &model, chunks: &chunks, cut: 1, score: LayerScore::Influence };
    let pruned = run(&job, MEMORY).unwrap();
    assert!(pruned.stash.is_none() && pruned.costs.iter().all(|cost| cost.kl.is_none()));
    let least = pruned.costs.iter().min_by(|a, b| a.influence.total_cmp(&b.influence)).unwrap();
    assert!(!pruned.kept.contains(&least.first));
}
