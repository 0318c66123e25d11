//! What holds for names in files of any format.

/// Whether `name` holds a character that could control a terminal, or begin a line where names are listed.
pub(crate) fn has_control(name: &str) -> bool {
    name.contains(char::is_control)
}
