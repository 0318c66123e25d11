//! The label `general.size_label`, computed from the number of parameters.

use crate::tensor::MappedTensor;

/// Returns the label of a model: its number of parameters or, for a mixture, `8x7.0B` with those of one expert and all
/// that is shared.
pub(super) fn size_label_of(tensors: &[MappedTensor]) -> String {
    let (mut shared, mut expert, mut experts, mut stacked) = (0u64, 0u64, 0u64, 0u64);
    for tensor in tensors {
        let weights = tensor.shape.iter().copied().fold(1, u64::saturating_mul);
        // The biases of experts count as shared.
        let expert_matrices = tensor.shape.len() > 2 && tensor.name.contains("_exps.");
        if let Some(&count) = tensor.shape.last().filter(|&&n| n > 0 && expert_matrices) {
            expert = expert.saturating_add(weights / count);
            experts += count;
            stacked += 1;
        } else {
            shared = shared.saturating_add(weights);
        }
    }
    let label = size_label(shared.saturating_add(expert));
    match experts.checked_div(stacked) {
        Some(count) => format!("{count}x{label}"),
        None => label,
    }
}

/// Returns the count in thousands, millions, billions or trillions, to two significant digits if it has fewer before the
/// point: `152K`, `1.2B`, `70B` (the GGUF naming convention).
fn size_label(parameters: u64) -> String {
    let (scale, suffix) = match parameters {
        1_000_000_000_001.. => (1e-12, 'T'),
        1_000_000_001.. => (1e-9, 'B'),
        1_000_001.. => (1e-6, 'M'),
        _ => (1e-3, 'K'),
    };
    let scaled = parameters as f64 * scale;
    let decimals = match scaled.round_ties_even() {
        whole if whole >= 10.0 => 0,
        whole if whole >= 1.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::size_label;

    #[test]
    fn two_digits_and_a_suffix() {
        let cases = [
            (0, "0.00K"),
            (480, "0.48K"),
            (9_499, "9.5K"),
            (9_501, "10K"),
            (152_000, "152K"),
            (1_000_000, "1000K"),
            (1_000_001, "1.0M"),
            (124_439_808, "124M"),
            (1_235_814_400, "1.2B"),
            (6_738_415_616, "6.7B"),
            (70_553_706_496, "71B"),
            (1_026_000_000_000, "1.0T"),
        ];
        for (parameters, label) in cases {
            assert_eq!(size_label(parameters), label, "{parameters}");
        }
    }
}
