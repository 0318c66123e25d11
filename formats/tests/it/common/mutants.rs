//! Damage that knows where it hurts: numbers at the limits of their width and ids of types, mostly in the header, and cut, removed,
//! repeated, swapped and transplanted pieces, from bytes to whole sections.
use proptest::prelude::*;
use proptest::sample::Index;

/// Bytes at the beginning of a file in which three of four changes are made, as lengths and counts stand there.
const HEADER: usize = 2048;

/// One change of a file.
#[derive(Debug, Clone)]
pub enum Change {
    Byte(u8),
    /// The last bytes of a number, little-endian.
    Number(u64, usize),
    Cut,
    Remove(usize),
    Repeat(usize),
    /// The piece changes its place with the one that follows it.
    Swap(usize),
    /// The piece that stands elsewhere is inserted.
    Splice(Index, usize),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        (0u32..64).prop_map(|bit| 1 << bit),
        (1u32..64).prop_map(|bit| (1 << bit) - 1),
        // Ids of types of values and tensors.
        0u64..16,
        0u64..300,
        any::<u64>(),
        any::<f32>().prop_map(|value| value.to_bits().into()),
    ]
}

/// Lengths of pieces: those of a few numbers, and those of a section.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1usize..64, 1 => 64usize..1024]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => any::<u8>().prop_map(Change::Byte),
        6 => (number(), prop::sample::select(vec![2usize, 4, 8])).prop_map(|(n, width)| Change::Number(n, width)),
        1 => Just(Change::Cut),
        1 => length().prop_map(Change::Remove),
        1 => length().prop_map(Change::Repeat),
        1 => length().prop_map(Change::Swap),
        1 => (any::<Index>(), length()).prop_map(|(from, length)| Change::Splice(from, length)),
    ]
}

/// One to four changes and their places.
pub fn changes() -> impl Strategy<Value = Vec<(bool, Index, Change)>> {
    prop::collection::vec((prop::bool::weighted(0.75), any::<Index>(), change()), 1..5)
}

/// Makes the changes.
pub fn damaged(mut bytes: Vec<u8>, changes: &[(bool, Index, Change)]) -> Vec<u8> {
    for (in_header, at, change) in changes {
        let size = if *in_header { bytes.len().min(HEADER) } else { bytes.len() };
        if size == 0 {
            break;
        }
        let at = at.index(size);
        let end = |length: usize| (at + length).min(bytes.len());
        match *change {
            Change::Byte(byte) => bytes[at] = byte,
            Change::Number(number, width) => {
                let end = end(width);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
            Change::Cut => bytes.truncate(at),
            Change::Remove(length) => drop(bytes.drain(at..end(length))),
            Change::Repeat(length) => {
                let piece = bytes[at..end(length)].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            Change::Swap(length) => {
                let end = end(2 * length);
                bytes[at..end].rotate_left(length.min(end - at));
            }
            Change::Splice(from, length) => {
                let from = from.index(bytes.len());
                let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, piece));
            }
        }
    }
    bytes
}
