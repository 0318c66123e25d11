//! Tensors that are encoded before it is their turn to be written: in memory up to a limit, past it in a temporary file.

use std::collections::BTreeMap;
use std::ops::Range;

use kquant_formats::FormatError;
use kquant_formats::scratch::Scratch;
use kquant_kernels::block::BlockType;

/// A source of weights that replace a model's own.
pub(crate) trait Replaced: Sync {
    /// Fills `out` with rows of `tensor` from `first` on; returns `None` if the model's own weights are to be used.
    fn rows(&self, tensor: &str, first: u64, out: &mut [f32]) -> Option<Result<(), FormatError>>;
}

/// Encoded tensors by GGUF name.
#[derive(Debug)]
pub struct Stash {
    tensors: BTreeMap<String, Stored>,
    /// Number of bytes that may still be held in memory.
    room: u64,
    scratch: Option<Scratch>,
}

/// A stash is equal to itself alone.
impl PartialEq for Stash {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

#[derive(Debug)]
struct Stored {
    block: &'static BlockType,
    columns: usize,
    row_bytes: usize,
    rows: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    /// The bytes begin at this offset of the temporary file.
    File(u64),
}

impl Stash {
    /// Creates an empty stash that holds up to `memory` bytes in memory.
    pub fn new(memory: u64) -> Self {
        Self { tensors: BTreeMap::new(), room: memory, scratch: None }
    }

    /// Keeps `bytes`, rows of `columns` weights encoded as `block`, under `name`.
    ///
    /// # Errors
    /// Fails when the temporary file has no room for them.
    pub fn insert(
        &mut self,
        name: &str,
        block: &'static BlockType,
        columns: usize,
        bytes: Vec<u8>,
    ) -> Result<(), FormatError> {
        let row_bytes = columns / block.elements * block.bytes;
        let size = bytes.len() as u64;
        let rows = (bytes.len() / row_bytes.max(1)) as u64;
        let place = if size <= self.room {
            self.room -= size;
            Place::Memory(bytes)
        } else {
            let scratch = match &mut self.scratch {
                Some(scratch) => scratch,
                none => none.insert(Scratch::new()?),
            };
            let at = scratch.reserve(size);
            scratch.write_at(at, &bytes)?;
            Place::File(at)
        };
        self.tensors.insert(name.to_owned(), Stored { block, columns, row_bytes, rows, place });
        Ok(())
    }

    /// Returns the names of the tensors, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns type, columns and rows of `name`; `None` if the stash does not hold it.
    pub(crate) fn shape(&self, name: &str) -> Option<(&'static BlockType, usize, u64)> {
        self.tensors.get(name).map(|stored| (stored.block, stored.columns, stored.rows))
    }

    /// Returns true if the stash holds `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the encoded rows `rows` of `name`; `None` if the stash does not hold it.
    ///
    /// # Errors
    /// Fails when the temporary file cannot be read.
    pub fn rows(&self, name: &str, rows: Range<u64>) -> Option<Result<Vec<u8>, FormatError>> {
        let stored = self.tensors.get(name)?;
        let (from, len) =
            (rows.start as usize * stored.row_bytes, (rows.end - rows.start) as usize * stored.row_bytes);
        match &stored.place {
            Place::Memory(bytes) => bytes.get(from..from + len).map(|rows| Ok(rows.to_vec())),
            Place::File(at) => {
                let mut bytes = vec![0; len];
                let read = self.scratch.as_ref()?.read_at(at + from as u64, &mut bytes);
                Some(read.map(|()| bytes))
            }
        }
    }
}

impl Replaced for Stash {
    fn rows(&self, tensor: &str, first: u64, out: &mut [f32]) -> Option<Result<(), FormatError>> {
        let stored = self.tensors.get(tensor)?;
        let rows = (out.len() / stored.columns) as u64;
        let bytes = Self::rows(self, tensor, first..first + rows)?;
        Some(bytes.map(|bytes| (stored.block.decode)(&bytes, out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kquant_kernels::block::by_name;

    #[test]
    fn rows_come_back_from_memory_and_from_the_file() {
        let block = by_name("Q8_0").unwrap();
        let mut stash = Stash::new(100);
        let bytes = |seed: u8| -> Vec<u8> { (0..68u8).map(|i| i.wrapping_mul(3) ^ seed).collect() };
        stash.insert("a", block, 32, bytes(1)).unwrap();
        stash.insert("b", block, 32, bytes(2)).unwrap();
        assert!(stash.scratch.is_some());
        for (name, seed) in [("a", 1), ("b", 2)] {
            assert_eq!(stash.rows(name, 1..2).unwrap().unwrap(), bytes(seed)[34..]);
            let (mut decoded, mut expected) = ([0.0; 32], [0.0; 32]);
            Replaced::rows(&stash, name, 0, &mut decoded).unwrap().unwrap();
            (block.decode)(&bytes(seed)[..34], &mut expected);
            assert_eq!(decoded.map(f32::to_bits), expected.map(f32::to_bits));
        }
        assert!(stash.rows("c", 0..1).is_none() && !stash.contains("c"));
    }
}
