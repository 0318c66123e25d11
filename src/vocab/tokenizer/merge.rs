//! Joining of neighbours, the best pair first: the loop that both kinds of BPE share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Position of a symbol; [`NONE`] stands for none.
type Index = usize;
const NONE: Index = Index::MAX;

/// A stretch of the text that is one symbol so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// Offset of its first byte in the text.
    pub(super) start: usize,
    /// Number of bytes; 0 once it was joined to its left neighbour.
    pub(super) len: usize,
    /// Number of the symbol, chosen by the caller.
    pub(super) id: u32,
    previous: Index,
    next: Index,
}

/// The symbol that two neighbours become, with the rank of the merge: lower ranks come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) rank: u32,
    pub(super) id: u32,
}

/// Two neighbours that can be joined, ordered by rank, then from left to right.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: Index,
    right: Index,
    /// Number of bytes of both. Symbols only grow, so a different length shows that one of them was joined meanwhile.
    len: usize,
    id: u32,
}

/// A text as a chain of symbols, kept between texts to reuse its memory.
#[derive(Debug, Default)]
pub(super) struct Chain {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Chain {
    /// Removes all symbols.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Appends the symbol of the next `len` bytes.
    pub(super) fn push(&mut self, len: usize, id: u32) {
        let index = self.symbols.len();
        let mut symbol = Symbol { start: 0, len, id, previous: NONE, next: NONE };
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
            symbol.start = last.start + last.len;
            symbol.previous = index - 1;
        }
        self.symbols.push(symbol);
    }

    /// Joins neighbours until `join` returns `None` for all pairs. This takes time n log n for n symbols.
    pub(super) fn merge(&mut self, join: impl Fn(&Symbol, &Symbol) -> Option<Joined>) {
        self.merge_telling(join, |_| {});
    }

    /// Joins as [`merge`](Self::merge) does and tells `made` the number of each symbol that two become, in order.
    pub(super) fn merge_telling(
        &mut self,
        join: impl Fn(&Symbol, &Symbol) -> Option<Joined>,
        mut made: impl FnMut(u32),
    ) {
        for right in 1..self.symbols.len() {
            self.propose(right - 1, right, &join);
        }
        while let Some(Reverse(best)) = self.queue.pop() {
            let Some((previous, next)) = self.apply(&best) else { continue };
            made(best.id);
            self.propose(previous, best.left, &join);
            self.propose(best.left, next, &join);
        }
    }

    /// Returns the symbols that are left, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }

    fn propose(&mut self, left: Index, right: Index, join: &impl Fn(&Symbol, &Symbol) -> Option<Joined>) {
        let (Some(one), Some(other)) = (self.symbols.get(left), self.symbols.get(right)) else { return };
        if let Some(Joined { rank, id }) = join(one, other) {
            self.queue.push(Reverse(Candidate { rank, left, right, len: one.len + other.len, id }));
        }
    }

    /// Joins the two symbols of `candidate` and returns their neighbours; `None` if they changed since it was proposed.
    fn apply(&mut self, candidate: &Candidate) -> Option<(Index, Index)> {
        let right = *self.symbols.get(candidate.right)?;
        let left = self.symbols.get_mut(candidate.left)?;
        if left.len == 0 || right.len == 0 || left.len + right.len != candidate.len {
            return None;
        }
        left.len = candidate.len;
        left.id = candidate.id;
        left.next = right.next;
        let previous = left.previous;
        if let Some(joined) = self.symbols.get_mut(candidate.right) {
            joined.len = 0;
        }
        if let Some(next) = self.symbols.get_mut(right.next) {
            next.previous = candidate.left;
        }
        Some((previous, right.next))
    }
}
