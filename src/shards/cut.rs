//! Where the tensors of a model are divided.

use std::num::NonZeroUsize;
use std::ops::Range;

use kquant_formats::gguf::TensorInfo;

/// The most that one file of a split model holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardLimit {
    /// Bytes of tensor data, padding included and the header not. A tensor that is larger gets a file of its own.
    Bytes(u64),
    /// Number of tensors.
    Tensors(NonZeroUsize),
}

/// How a model is divided into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The most that one file holds.
    pub limit: ShardLimit,
    /// True if the first file holds keys and no tensor.
    pub keys_first: bool,
}

impl Cut {
    /// Returns the tensors of each file as ranges of indices into `tensors`, whose data are padded to `alignment` bytes.
    pub(super) fn ranges(&self, tensors: &[TensorInfo], alignment: u64) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        if self.keys_first {
            ranges.push(0..0);
        }
        let (mut start, mut size) = (0, 0u64);
        for (i, tensor) in tensors.iter().enumerate() {
            let bytes = tensor.bytes.checked_next_multiple_of(alignment).unwrap_or(tensor.bytes);
            let with_it = size.saturating_add(bytes);
            let full = match self.limit {
                ShardLimit::Bytes(most) => with_it > most,
                ShardLimit::Tensors(most) => i.is_multiple_of(most.get()),
            };
            if full && i > start {
                ranges.push(start..i);
                (start, size) = (i, bytes);
            } else {
                size = with_it;
            }
        }
        ranges.push(start..tensors.len());
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(limit: ShardLimit, keys_first: bool, sizes: &[u64]) -> Vec<Range<usize>> {
        let tensor = |&bytes: &u64| TensorInfo {
            name: String::new(),
            shape: vec![bytes],
            type_id: 24,
            offset: 0,
            bytes,
            shard: 0,
        };
        Cut { limit, keys_first }.ranges(&sizes.iter().map(tensor).collect::<Vec<_>>(), 32)
    }

    #[test]
    fn files_are_filled_in_order() {
        let bytes = ShardLimit::Bytes;
        // Padded, the sizes are 32, 32, 64 and 32 bytes.
        let sizes = [32, 1, 33, 32];
        assert_eq!(ranges(bytes(96), false, &sizes), [0..2, 2..4]);
        assert_eq!(ranges(bytes(95), false, &sizes), [0..2, 2..3, 3..4]);
        assert_eq!(ranges(bytes(160), true, &sizes), [0..0, 0..4]);
        let tensors = |n| ShardLimit::Tensors(NonZeroUsize::new(n).unwrap());
        assert_eq!(ranges(tensors(3), false, &sizes), [0..3, 3..4]);
        assert_eq!(ranges(tensors(4), false, &sizes), vec![0..4; 1]);
        assert_eq!(ranges(tensors(2), true, &sizes), [0..0, 0..2, 2..4]);
        assert_eq!(ranges(tensors(2), false, &[]), vec![0..0; 1]);
    }

    #[test]
    fn tensors_beyond_the_limit_stand_alone() {
        let limit = ShardLimit::Bytes(64);
        assert_eq!(ranges(limit, false, &[100, 32, 100, 100, 32, 32]), [0..1, 1..2, 2..3, 3..4, 4..6]);
        assert_eq!(ranges(limit, true, &[100, 100]), [0..0, 0..1, 1..2]);
    }
}
