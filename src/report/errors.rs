//! How far the weights of each tensor of a model are from those of the model that it was made of.

use rayon::prelude::*;
use serde::Serialize;

use super::{Inspected, ReportError};
use crate::context::{Context, Unit};
use crate::tensor::{MappedTensor, read_rows};

/// Weights that are decoded at a time, of each of two models.
const PIECE: u64 = 1 << 20;

/// The types of a tensor before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Precision {
    /// Type in the base.
    pub from: &'static str,
    /// Type in the model.
    pub to: &'static str,
}

/// How far a tensor's weights moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorError {
    /// GGUF name of the tensor.
    pub name: String,
    /// Number of weights.
    pub weights: u64,
    /// Types before and after.
    #[serde(flatten)]
    pub types: Precision,
    /// Sum of the squared differences over the sum of the base's squares; 0 where nothing moved. In JSON null where weights are not
    /// finite.
    pub relative_squared_error: f64,
    /// The largest difference of a weight.
    pub largest: f64,
}

/// Compares all tensors that `base` and `model` have in common, in the order of the base; tensors of other shapes are left out. Both are
/// read once, in pieces.
///
/// # Errors
/// Fails when a tensor cannot be read, or the run is stopped.
pub fn tensor_errors(
    base: &Inspected,
    model: &Inspected,
    run: &Context,
) -> Result<Vec<TensorError>, ReportError> {
    let other = |t: &MappedTensor| {
        model.converted().tensors.iter().find(|other| other.name == t.name && other.shape == t.shape)
    };
    let pairs: Vec<_> = base.converted().tensors.iter().filter_map(|t| Some((t, other(t)?))).collect();
    run.progress.begin(work(base), Unit::Work);
    let mut done = 0;
    let mut all = Vec::with_capacity(pairs.len());
    for (before, after) in pairs {
        all.push(tensor_error((base, before), (model, after), run)?);
        done += before.weights();
        run.progress.advance(done, &before.name);
    }
    Ok(all)
}

fn work(base: &Inspected) -> u64 {
    base.converted().tensors.iter().map(MappedTensor::weights).sum()
}

/// Sums over some rows of a tensor.
#[derive(Clone, Copy, Default)]
struct WeightChange {
    differences: f64,
    squares: f64,
    largest: f64,
}

fn tensor_error(
    (base, before): (&Inspected, &MappedTensor),
    (model, after): (&Inspected, &MappedTensor),
    run: &Context,
) -> Result<TensorError, ReportError> {
    let rows = (PIECE / before.columns().max(1)).max(1);
    let pieces: Vec<u64> = (0..before.rows()).step_by(rows as usize).collect();
    // The pieces and the order of their sums depend on the tensor alone.
    let moved: Vec<WeightChange> = pieces
        .into_par_iter()
        .map(|first| {
            if run.is_cancelled() {
                return Err(ReportError::Cancelled);
            }
            let some = first..(first + rows).min(before.rows());
            let weights = ((some.end - some.start) * before.columns()) as usize;
            let read = |of: &Inspected, tensor: &MappedTensor| {
                let mut out = vec![0.0; weights];
                read_rows(of.opened().checkpoint.as_ref(), tensor, some.clone(), &mut out)
                    .map_err(|source| ReportError::Tensor { path: of.path().to_owned(), source })?;
                Ok::<_, ReportError>(out)
            };
            Ok(moved(&read(base, before)?, &read(model, after)?))
        })
        .collect::<Result<_, _>>()?;
    let sum = |value: fn(&WeightChange) -> f64| moved.iter().map(value).sum::<f64>();
    Ok(TensorError {
        name: before.name.clone(),
        weights: before.weights(),
        types: Precision { from: base.stored_type(before), to: model.stored_type(after) },
        relative_squared_error: relative(sum(|m| m.differences), sum(|m| m.squares)),
        largest: moved.iter().map(|m| m.largest).fold(0.0, f64::max),
    })
}

/// Returns a share that is 0 where nothing moved, weights of zero included.
fn relative(differences: f64, squares: f64) -> f64 {
    if differences == 0.0 { 0.0 } else { differences / squares }
}

fn moved(before: &[f32], after: &[f32]) -> WeightChange {
    let mut sums = WeightChange::default();
    for (&a, &b) in before.iter().zip(after) {
        let (a, difference) = (f64::from(a), f64::from(a) - f64::from(b));
        sums.differences += difference * difference;
        sums.squares += a * a;
        sums.largest = sums.largest.max(difference.abs());
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_base() {
        let sums = moved(&[3.0, 0.0, -4.0], &[3.0, 0.5, -4.5]);
        assert_eq!((sums.differences, sums.squares, sums.largest), (0.5, 25.0, 0.5));
        assert_eq!(relative(sums.differences, sums.squares), 0.02);
        assert_eq!(relative(0.0, 0.0), 0.0);
        assert_eq!(relative(1.0, 0.0), f64::INFINITY);
        assert!(relative(f64::NAN, 1.0).is_nan());
    }
}
