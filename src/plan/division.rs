//! Which file of the output holds which tensor.

use super::inventory::shard;
use crate::checkpoint::Opened;
use crate::tensor::MappedTensor;

/// How the tensors of the output are divided into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Division {
    /// All in one file.
    OneFile,
    /// As the input's are, which may be split.
    AsInput,
    /// In so many files, each with about the same number of weights, for as many runs. Files without tensors are possible.
    Parts(u16),
}

impl Division {
    /// Returns the file of each of `tensors`, which are in the order of the output.
    pub(super) fn files(self, tensors: &[&MappedTensor], opened: &Opened) -> Vec<usize> {
        match self {
            Self::OneFile => vec![0; tensors.len()],
            Self::AsInput => tensors.iter().map(|tensor| shard(tensor, opened)).collect(),
            Self::Parts(count) => {
                balanced(&tensors.iter().map(|tensor| tensor.weights()).collect::<Vec<_>>(), count)
            }
        }
    }

    /// Returns the number of files, of which the last one with tensors is number `last`, from 0.
    pub(super) fn count(self, last: usize) -> usize {
        match self {
            Self::Parts(count) => count.into(),
            Self::OneFile | Self::AsInput => last + 1,
        }
    }
}

/// Divides a row of tensors of so many `weights` into `count` neighbouring parts: a tensor goes where its middle lies.
fn balanced(weights: &[u64], count: u16) -> Vec<usize> {
    let all: u128 = weights.iter().map(|&n| u128::from(n)).sum();
    let mut before = 0;
    let part = |&own: &u64| {
        let middle = 2 * before + u128::from(own);
        before += u128::from(own);
        // A middle is below the end of the last part, unless all tensors are empty.
        (middle * u128::from(count) / (2 * all).max(1)).min(u128::from(count) - 1) as usize
    };
    weights.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_neighbours_of_about_the_same_weight() {
        assert_eq!(balanced(&[1; 7], 3), [0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(balanced(&[10, 1, 1, 1, 1], 2), [0, 1, 1, 1, 1]);
        assert_eq!(balanced(&[1, 1, 10], 3), [0, 0, 1]);
        assert_eq!(balanced(&[5], 4), [2]);
        assert_eq!(balanced(&[0, 0], 2), [0, 0]);
        assert_eq!(balanced(&[], 2), [0; 0]);
        assert_eq!(balanced(&[u64::MAX, u64::MAX], 65_535), [16_383, 49_151]);
    }
}
