//! Description of the Fisher matrices of a statistics file.

use super::{F64, packed};
use crate::gguf::{Array, Metadata, TensorSpec, Value};

const SEED: &str = "kquant.fisher.seed";
const TENSORS: &str = "kquant.fisher.tensors";
const OUTPUTS: &str = "kquant.fisher.outputs";

pub(super) const TOKENS: &str = ".out_tokens";

/// The projection to logits, whose outputs are so many that only the diagonal is stored.
const DIAGONAL: &str = "output.weight";

/// Most outputs of a tensor, a limit that keeps the size of the triangle far from overflow.
const MOST: u64 = 1 << 31;

/// The Fisher matrices of a statistics file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fishers {
    /// Seed that the labels were drawn with.
    pub seed: u64,
    /// Fisher matrices, in the order of the file.
    pub tensors: Vec<Fisher>,
}

/// The Fisher matrix of one tensor's outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fisher {
    /// GGUF name of the tensor.
    pub tensor: String,
    /// Rows of each matrix of the tensor, and so rows of the Fisher matrix.
    pub outputs: usize,
}

impl Fisher {
    /// Returns whether only the diagonal is stored.
    pub fn is_diagonal(&self) -> bool {
        self.tensor == DIAGONAL
    }

    /// Returns the number of values in the file: a packed upper triangle or a diagonal.
    pub fn values(&self) -> usize {
        if self.is_diagonal() { self.outputs } else { packed(self.outputs) }
    }

    /// Returns the number of values in the file; `None` if the outputs are more than is accepted.
    pub(super) fn checked_values(&self) -> Option<u64> {
        let n = self.outputs as u64;
        let all = if self.is_diagonal() { n } else { n.checked_mul(n.checked_add(1)?)? / 2 };
        (n <= MOST).then_some(all)
    }

    /// Returns the ending of the name of the tensor that holds the sums.
    pub(super) fn suffix(&self) -> &'static str {
        if self.is_diagonal() { ".out_sum2" } else { ".out_outer" }
    }
}

impl Fishers {
    /// Writes the description to `metadata`.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        let names = self.tensors.iter().map(|fisher| fisher.tensor.clone()).collect();
        let outputs = self.tensors.iter().map(|fisher| fisher.outputs as u64).collect();
        metadata.set(SEED, Value::U64(self.seed));
        metadata.set(TENSORS, Value::Array(Array::String(names)));
        metadata.set(OUTPUTS, Value::Array(Array::U64(outputs)));
    }

    /// Returns the description in `metadata`; `None` if the file has no Fisher matrices.
    pub(super) fn described(metadata: &Metadata) -> Result<Option<Self>, String> {
        let seed = match metadata.get(SEED) {
            None => return Ok(None),
            Some(Value::U64(seed)) => *seed,
            Some(_) => return Err(format!("the key {SEED} is no u64")),
        };
        let (names, outputs) = match (metadata.get(TENSORS), metadata.get(OUTPUTS)) {
            (Some(Value::Array(Array::String(names))), Some(Value::Array(Array::U64(outputs))))
                if names.len() == outputs.len() =>
            {
                (names, outputs)
            }
            _ => return Err(format!("{TENSORS} (strings) and {OUTPUTS} (u64s) are not there or differ")),
        };
        let tensors = names.iter().zip(outputs).map(|(tensor, &outputs)| {
            let outputs = usize::try_from(outputs).ok().filter(|n| (1..=MOST as usize).contains(n));
            let outputs = outputs.ok_or_else(|| format!("{OUTPUTS}: {tensor:?} has none, or too many"))?;
            Ok(Fisher { tensor: tensor.clone(), outputs })
        });
        let tensors = tensors.collect::<Result<Vec<_>, String>>()?;
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("{TENSORS} has {:?} twice", pair[0])),
            None => Ok(Some(Self { seed, tensors })),
        }
    }
}

/// Returns the two tensors that hold one Fisher matrix, the token count first.
pub(super) fn specs(fisher: &Fisher) -> [TensorSpec; 2] {
    let spec = |suffix: &str, values: u64| TensorSpec {
        name: format!("{}{suffix}", fisher.tensor),
        shape: vec![values],
        type_id: F64,
        bytes: 8 * values,
    };
    [spec(TOKENS, 1), spec(fisher.suffix(), fisher.values() as u64)]
}
