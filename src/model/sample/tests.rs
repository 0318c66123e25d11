//! Sampling many texts at once against one at a time and against the forward pass, for every family in tests/data/archs.

use std::path::PathBuf;

use kquant_kernels::math::log_sum_exp;

use super::*;
use crate::context::Silent;
use crate::model::Pass;
use std::sync::atomic::AtomicBool;

const CONTEXT: usize = 24;
const TEXTS: usize = 70;
/// Largest difference of a logit between the cached and the whole pass: two orders of summation in f32.
const EXACT: f32 = 5e-5;

fn models() -> Vec<(String, Model)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/archs");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|f| f.unwrap().path()).collect();
    // Encoders write no text.
    folders.retain(|folder| folder.join("logits.f32").exists());
    folders.sort();
    let models: Vec<_> =
        folders.iter().map(|path| (path.display().to_string(), Model::open(path, None).unwrap())).collect();
    assert!(models.len() > 3);
    models
}

fn marks(model: &Model) -> Marks {
    Marks { start: 1, ends: (2..model.vocab as u32).step_by(8).collect(), known: model.vocab - 5 }
}

fn by(model: &Model, share: Share) -> Sampled {
    let sampling =
        Sampling { tokens: TEXTS * CONTEXT, context: CONTEXT, seed: 3, temperature: 1.0, top_p: 1.0 };
    let cancel = AtomicBool::new(false);
    let run = Context { memory: 0, cancel: &cancel, progress: &Silent };
    sample_by(model, &sampling, &marks(model), share, &run).unwrap()
}

#[test]
fn many_at_once_are_one_at_a_time() {
    // Random weights give some models a few tokens that they draw again and again, none of them an end.
    let (mut ended, mut varied) = (0, 0);
    for (name, model) in models() {
        let together = by(&model, Share { hold: true, texts: TEXTS });
        for share in [Share { hold: true, texts: 1 }, Share { hold: false, texts: 33 }] {
            assert!(by(&model, share) == together, "{name}: {share:?}");
        }
        let marks = marks(&model);
        assert!(together.texts().all(|text| text[0] == marks.start), "{name}");
        assert!(together.tokens().iter().all(|&token| (token as usize) < marks.known), "{name}");
        let pairs = || together.texts().flat_map(|text| text.windows(2));
        ended += usize::from(pairs().any(|pair| marks.ends.contains(&pair[0])));
        assert!(pairs().all(|p| !marks.ends.contains(&p[0]) || p[1] == marks.start), "{name}");
        let distinct: std::collections::BTreeSet<_> = together.texts().collect();
        varied += usize::from(distinct.len() > TEXTS / 2);
    }
    assert!(ended > 3 && varied > 3, "texts of {ended} models end, those of {varied} differ");
}

#[test]
fn cached_logits_are_those_of_the_forward_pass() {
    let cancel = AtomicBool::new(false);
    let pass = Pass { context: CONTEXT, memory: 1 << 30, cancel: &cancel, progress: &Silent };
    for (name, model) in models() {
        let texts = by(&model, Share { hold: true, texts: TEXTS });
        let hidden = model.hidden(texts.tokens(), &pass, None, 0).unwrap();
        let mut session = model.sessions(TEXTS, CONTEXT, true).unwrap();
        let head = model.head(u64::MAX).unwrap();
        let (mut ours, mut whole) = (Vec::new(), Vec::new());
        for position in 0..CONTEXT {
            let step: Vec<u32> = texts.texts().map(|text| text[position]).collect();
            let logits = session.feed_each(&step, 1).unwrap();
            for text in 0..TEXTS {
                logits.row(text, &mut ours);
                let states = head.normed(hidden.rows(text * CONTEXT + position, 1));
                head.logits(&states).unwrap().row(0, &mut whole);
                let most = ours.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(most <= EXACT, "{name}: text {text}, position {position}: {most}");
                let loss = (log_sum_exp(&ours) - log_sum_exp(&whole)).abs();
                assert!(loss <= f64::from(EXACT), "{name}: {loss}");
            }
        }
    }
}
