//! What every long run is given: memory, a way to stop it, and whom to tell how far it has come.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a run may use and whom it tells. Nothing here changes a bit of what it computes.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Bytes for weights, hidden states, statistics and buffers.
    pub memory: u64,
    /// Set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// Told of the work done, in units of the run's own.
    pub progress: &'a dyn Progress,
}

impl<'a> Context<'a> {
    /// The context with `memory` bytes instead of its own.
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// Whether the run was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// What the work of a run is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Units of which only the share of the whole means something, such as tokens through layers.
    Work,
}

/// Told about progress by whatever runs long; the command line shows it.
pub trait Progress: Sync {
    /// A part of the run begins that takes `total` units; those of the parts before it are not counted again.
    fn begin(&self, _total: u64, _unit: Unit) {}

    /// `done` units of work were done by an earlier run, so that they say nothing of the rate of this one.
    fn resume(&self, _done: u64) {}

    /// `done` units of work are behind; the last of them belong to `what`.
    fn advance(&self, done: u64, what: &str);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _done: u64, _what: &str) {}
}

/// A later part of a run, told as what comes after the units of `before`.
pub struct After<'a> {
    /// Units of work of the parts before.
    pub before: u64,
    /// Told of the whole run.
    pub whole: &'a dyn Progress,
}

impl Progress for After<'_> {
    fn resume(&self, done: u64) {
        self.whole.resume(self.before + done);
    }

    fn advance(&self, done: u64, what: &str) {
        self.whole.advance(self.before + done, what);
    }
}
