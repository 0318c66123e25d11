//! How much each layer turns the stream (Men et al., ShortGPT: Layers in Large Language Models are More Redundant Than You Expect,
//! 2024).

use rayon::prelude::*;

use super::{BoundLayer, PruneError, embedded};
use crate::context::Context;
use crate::model::{Model, ModelError};
use crate::text::Chunks;

/// Returns for each layer the mean over the tokens of `1 - cos` of the streams before and after it.
pub(super) fn influences(model: &Model, chunks: &Chunks, context: &Context) -> Result<Vec<f64>, PruneError> {
    let stages = model.stages(chunks.context())?;
    let (_, tile) = stages.block_and_tile(context.memory / 4);
    let (all, hidden) = (chunks.tokens().len(), model.hyper.hidden);
    let tiles = chunks.tokens().chunks(tile).map(|tokens| embedded(model, tokens, chunks.context()));
    let mut tiles = tiles.collect::<Result<Vec<_>, _>>()?;
    let mut influences = Vec::new();
    for layer in 0..model.hyper.layers {
        let bound = BoundLayer::new(&stages, layer as u32, None)?;
        let mut sum = 0.0;
        for (i, stream) in tiles.iter_mut().enumerate() {
            if context.is_cancelled() {
                return Err(ModelError::Interrupted.into());
            }
            let after = bound.run(&stages, i * tile, stream.clone())?;
            let rows = stream.par_chunks_exact(hidden).zip(after.par_chunks_exact(hidden));
            let turns: Vec<f64> = rows.map(|(a, b)| 1.0 - cosine(a, b)).collect();
            turns.iter().for_each(|turn| sum += turn);
            *stream = after;
            let done = layer * all + (i * tile + turns.len()).min(all);
            context.progress.advance(done as u64, &format!("layer {layer}"));
        }
        influences.push(sum / all as f64);
    }
    Ok(influences)
}

/// Returns the cosine of the angle between `a` and `b`; 0 if one of them is zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn cosines_are_those_of_the_angles() {
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-12);
        assert!((cosine(&[2.0, -1.0], &[-4.0, 2.0]) + 1.0).abs() < 1e-12);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 1.0]), 0.0);
    }
}
