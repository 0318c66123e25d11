//! Choices of experts on small mixtures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::experts::logits_without;
use super::tests_of_runs::{MEMORY, assert_close, chunks, data, fishers, logits, written};
use super::{Amount, ExpertScore, Experts, PruneError, PrunedExperts, experts_left};
use crate::context::{Context, Silent};
use crate::evaluate::compare_rows;
use crate::model::{Logits, Model};
use crate::text::Chunks;
use crate::transform::{ExpertsError, keep_experts};

fn run(job: &Experts, memory: u64) -> PrunedExperts {
    job.run(&Context { memory, cancel: &AtomicBool::new(false), progress: &Silent }).unwrap()
}

fn lists(pruned: &PrunedExperts) -> BTreeMap<u32, Arc<[u32]>> {
    let of = |kept: &[usize]| kept.iter().map(|&expert| expert as u32).collect();
    pruned.layers.iter().map(|layer| (layer.layer as u32, of(&layer.kept))).collect()
}

/// Mean KL divergence of `found` from `base` over the tokens of `chunks`, in nats per token.
fn divergence(base: &Logits, found: &Logits, chunks: &Chunks) -> f64 {
    let (tokens, mut a, mut b) = (chunks.tokens().len(), Vec::new(), Vec::new());
    let of = |token| {
        base.row(token, &mut a);
        found.row(token, &mut b);
        compare_rows(&a, &b, 0).unwrap().kl
    };
    (0..tokens).map(of).sum::<f64>() / tokens as f64
}

#[test]
fn a_smaller_mixture_routes_as_if_the_others_were_not_there_and_loses_no_more_than_by_reap() {
    for name in ["archs/mixtral", "archs/gpt_oss"] {
        let path = data(name);
        let model = Model::open(&path, None).unwrap();
        let text = chunks(&model, "calibration-small.txt", 32);
        let other = chunks(&model, "eval-small.txt", 16);
        let fishers = fishers(&model, &text);
        let base = logits(&model, None, &other);
        let kl = |score, fishers| {
            let pruned = run(&Experts { model: &model, chunks: &text, fishers, left: 3, score }, MEMORY);
            assert!(pruned.layers.iter().all(|layer| layer.kept.len() == 3), "{name}");
            let left = written(&path, keep_experts(model.converted(), &lists(&pruned)).unwrap());
            let experts = left.hyper.experts.as_ref().unwrap();
            assert_eq!((experts.count, experts.used), (3, 2), "{name}");
            let found = logits(&left, None, &other);
            let expected = logits_without(&model, &pruned, &other);
            assert_close(&expected, &found, &other, &path);
            divergence(&base, &found, &other)
        };
        let (absence, reap) = (kl(ExpertScore::Absence, Some(&fishers)), kl(ExpertScore::Reap, None));
        assert!(absence > 0.0 && absence <= reap, "{name}: {absence} by absence, {reap} by REAP");
    }
}

#[test]
fn threads_and_memory_change_no_choice() {
    let model = Model::open(&data("archs/mixtral"), None).unwrap();
    let chunks = chunks(&model, "calibration-small.txt", 24);
    for score in [ExpertScore::Absence, ExpertScore::Reap] {
        let job = Experts { model: &model, chunks: &chunks, fishers: None, left: 2, score };
        let made = |threads: usize, memory: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&job, memory)).layers
        };
        let expected = made(1, MEMORY);
        assert!(made(2, MEMORY) == expected, "{score:?}: threads");
        assert!(made(2, 1 << 20) == expected, "{score:?}: memory");
    }
}

#[test]
fn experts_that_cannot_be_cut_are_refused_by_name() {
    let open = |name: &str| Model::open(&data(name), None).unwrap();
    let cut = |model: &Model, amount: &str| experts_left(model, amount.parse::<Amount>().unwrap());
    assert!(matches!(cut(&open("tiny-llama"), "25%"), Err(PruneError::NoExperts)));
    let mixtral = open("archs/mixtral");
    assert_eq!(cut(&mixtral, "25%").unwrap(), 3);
    assert!(cut(&mixtral, "1").is_err() && cut(&mixtral, "4").is_err());
    // Two groups of two, of which one is chosen, and two experts of it.
    let error = cut(&open("archs/deepseek_v3"), "25%").unwrap_err().to_string();
    assert!(error.contains("multiples of 2 (the groups of the router) from 4 on"), "{error}");
    let uneven: BTreeMap<u32, Arc<[u32]>> = [(0, Arc::from([0, 1])), (1, Arc::from([2]))].into();
    let error = keep_experts(mixtral.converted(), &uneven).unwrap_err();
    assert!(matches!(error, ExpertsError::Uneven { layer: 1, found: 1, expected: 2 }), "{error}");
}
