//! What a model that was made of another says of itself.

use kquant_formats::gguf::Value;

use crate::arch;
use crate::convert::Converted;

/// Start of the keys that say what was cut.
const PRUNED: &str = "kquant.pruned.";

/// Describes `made` as a smaller model made of `base`: its size label and numbers of weights anew, and `base` as the base
/// model, or the original that `base` itself was cut from.
pub fn describe(base: &Converted, made: &mut Converted) {
    let keeps_base = base.metadata.iter().any(|(key, _)| key.starts_with(PRUNED));
    made.metadata = arch::derived(&made.metadata, &made.tensors, keeps_base);
    let weights = |model: &Converted| model.tensors.iter().map(|t| t.weights()).sum();
    let before = format!("{PRUNED}parameters_before");
    if base.metadata.get(&before).is_none() {
        made.metadata.set(before, Value::U64(weights(base)));
    }
    let now = weights(made);
    made.metadata.set(format!("{PRUNED}parameters"), Value::U64(now));
}
