//! Tests of feedback over rows, on Fisher matrices like those of a real model: the gradients of outputs share factors.

use std::sync::atomic::AtomicBool;

use super::tests::{Source, codec, decoded, feedback, feedback_for, weights};
use super::*;

const COLUMNS: usize = 256;
const ROWS: usize = 96;

struct Case {
    inputs: Feedback,
    outputs: Feedback,
    held_out: Option<Hessian>,
    targets: Vec<f32>,
}

impl Case {
    fn new(kind: &str, fisher: &Hessian) -> Self {
        let source = Source::new(COLUMNS);
        Self {
            inputs: feedback_for(kind, &source.hessian(4096, 1)),
            outputs: feedback(fisher),
            held_out: Some(source.hessian(1024, 2)),
            targets: weights(ROWS, COLUMNS),
        }
    }

    fn encode(&self, kind: &str, row_passes: usize, cancel: bool) -> Option<(Vec<u8>, Losses)> {
        let codec = codec(kind);
        let options = Options { row_passes, ..Options::default() };
        let both = BothSides {
            inputs: &self.inputs,
            outputs: &self.outputs,
            held_out: self.held_out.as_ref(),
            codec,
            targets: &self.targets,
            options: &options,
            cancel: &AtomicBool::new(cancel),
        };
        let mut bytes = vec![0; ROWS * COLUMNS / codec.block.elements * codec.block.bytes];
        both.encode(&mut bytes).map(|losses| (bytes, losses))
    }

    /// Returns `tr(H_O E H E')` over the mean of H_O's diagonal, with the Hessian that candidates are compared by and the
    /// damped Fisher matrix.
    fn loss(&self, kind: &str, bytes: &[u8]) -> f64 {
        let mut errors = decoded(codec(kind), bytes, self.targets.len());
        errors.iter_mut().zip(&self.targets).for_each(|(e, w)| *e -= w);
        let judge = self.held_out.as_ref().map_or(&self.inputs.hessian, |held_out| &held_out.mean);
        let product =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a * b)).sum() };
        let through: Vec<Vec<f64>> = errors
            .chunks_exact(COLUMNS)
            .map(|e| judge.chunks_exact(COLUMNS).map(|h| product(h, e)).collect())
            .collect();
        let mut loss = 0.0;
        for (a, through) in through.iter().enumerate() {
            for (b, e) in errors.chunks_exact(COLUMNS).enumerate() {
                let among: f64 = through.iter().zip(e).map(|(&x, &e)| x * f64::from(e)).sum();
                loss += f64::from(self.outputs.hessian[a * ROWS + b]) * among;
            }
        }
        let diagonal = self.outputs.importance.iter().map(|&x| f64::from(x)).sum::<f64>() / ROWS as f64;
        loss / diagonal
    }
}

fn fisher() -> Hessian {
    Source::new(ROWS).hessian(4096, 3)
}

#[test]
fn rows_make_up_for_each_other() {
    for kind in ["Q2_K", "Q3_K", "Q4_K", "IQ4_XS", "Q4_0", "IQ3_S"] {
        let case = Case::new(kind, &fisher());
        let codec = codec(kind);
        let mut alone = vec![0; ROWS * COLUMNS / codec.block.elements * codec.block.bytes];
        let options = Options::default();
        encode(&case.inputs, case.held_out.as_ref(), codec, &case.targets, &options, &mut alone);
        let alone = case.loss(kind, &alone);
        let mut before = alone;
        for passes in 0..3 {
            let (bytes, losses) = case.encode(kind, passes, false).unwrap();
            let loss = case.loss(kind, &bytes);
            assert!((losses.result / loss - 1.0).abs() < 1e-4, "{kind}: {} told, {loss}", losses.result);
            let most = if passes == 0 { 0.85 * before } else { before };
            assert!(loss < most, "{kind}, {passes} passes: {loss} is not below {most}");
            before = loss;
        }
    }
}

#[test]
fn the_loss_is_known_without_held_out_text_as_well() {
    for kind in ["Q2_K", "Q4_0", "IQ3_S"] {
        let case = Case { held_out: None, ..Case::new(kind, &fisher()) };
        for passes in 0..3 {
            let (bytes, losses) = case.encode(kind, passes, false).unwrap();
            let loss = case.loss(kind, &bytes);
            assert!((losses.result / loss - 1.0).abs() < 1e-4, "{kind}: {} told, {loss}", losses.result);
        }
    }
}

#[test]
fn outputs_that_do_not_matter_together_change_nothing() {
    let mut unit = Hessian { columns: ROWS, mean: vec![0.0; ROWS * ROWS], tokens: 1 << 20 };
    unit.mean.iter_mut().step_by(ROWS + 1).for_each(|x| *x = 1.0);
    let case = Case::new("Q3_K", &unit);
    let mut alone = vec![0; ROWS * COLUMNS / 256 * 110];
    let options = Options::default();
    encode(&case.inputs, case.held_out.as_ref(), codec("Q3_K"), &case.targets, &options, &mut alone);
    assert!(case.encode("Q3_K", 0, false).unwrap().0 == alone);
}

#[test]
fn bytes_do_not_depend_on_threads_and_a_cancelled_run_has_none() {
    let case = Case::new("Q4_K", &fisher());
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.encode("Q4_K", 1, false)).unwrap()
    };
    let (first, losses) = on(1);
    for threads in [2, 5] {
        let (bytes, other) = on(threads);
        assert!(bytes == first && other.result.to_bits() == losses.result.to_bits());
    }
    assert!(case.encode("Q4_K", 1, true).is_none());
}
