//! What the stream of the changed model has lost against the original's where a group of linear maps reads.

use rayon::prelude::*;

use crate::model::ModelError;
use crate::model::stages::{BoundLinear, Stage, Stages, State};

/// Returns what `changed` has lost against `original`, states after `stage`, where the coming group reads: the difference
/// of the inputs `[tokens][columns]` or, where the output goes right into the stream, the difference `[tokens][rows]` of the
/// streams after it if `next`, the group's own weights, stayed as they are.
pub(crate) fn losses(
    stages: &Stages,
    (stage, next): (&Stage, Option<&BoundLinear>),
    original: &State,
    changed: &State,
) -> Result<Vec<f32>, ModelError> {
    let lost = difference(stage.input(original)?, stage.input(changed)?);
    let Some(next) = next else { return Ok(lost) };
    let mut lost = stages.multiply(next, &lost);
    let streams = stage.stream(original)?.par_iter().zip(stage.stream(changed)?);
    // The loss is in the unit of the group's output, which enters the stream times a scale.
    let unit = 1.0 / stages.residual_scale();
    lost.par_iter_mut().zip(streams).for_each(|(lost, (f, q))| *lost += (f - q) * unit);
    Ok(lost)
}

/// Returns `a - b`, element by element.
pub(super) fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.par_iter().zip(b).map(|(a, b)| a - b).collect()
}
