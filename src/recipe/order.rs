//! The order in which tensors are decided and written.

/// The layer in a name of the form `blk.N.`; `None` for tensors outside the layers.
pub(super) fn layer_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("blk.")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

/// Indices of `names` in llama-quantize's output order: tensors outside the layers first, then layer by layer,
/// by name within each.
pub fn output_order<S: AsRef<str>>(names: &[S]) -> Vec<usize> {
    let mut keyed: Vec<(Option<u32>, &str, usize)> =
        names.iter().enumerate().map(|(i, n)| (layer_of(n.as_ref()), n.as_ref(), i)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, _, i)| i).collect()
}
