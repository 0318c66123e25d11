//! Rules for names in files of any format.

/// Returns whether `name` holds a character that could control a terminal or begin a new line in a list of names.
pub(crate) fn has_control(name: &str) -> bool {
    name.contains(char::is_control)
}
