//! What is to be known of an input, before what a command prints itself.

use std::io::{self, Write};

use kquant::checkpoint::Opened;

/// Prints what was chosen where something else could be meant, on standard error.
pub(super) fn print(opened: &Opened) -> io::Result<()> {
    let mut err = io::stderr().lock();
    opened.notes.iter().try_for_each(|note| writeln!(err, "note: {note}"))
}
