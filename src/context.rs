//! How far a long run has come, and how to stop it.

/// Told about progress by whatever runs long; the command line shows it.
pub trait Progress: Sync {
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
    fn advance(&self, done: u64, what: &str) {
        self.whole.advance(self.before + done, what);
    }
}
