//! Names and notes on the terminal: whatever a file calls its tensors, it controls neither the terminal nor the lines.

use std::borrow::Cow;
use std::path::Path;

/// `text` with its control characters, line feeds included, escaped.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    escape(text, char::is_control)
}

/// A path as [`printable`].
pub(super) fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// `text` with its control characters escaped, but in lines as it is: messages may have several.
pub(super) fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() && c != '\n')
}

/// JSON with the control characters escaped that JSON lets through: those beyond ASCII's first.
pub(super) fn printable_json(text: &str) -> Cow<'_, str> {
    let unprintable = |c: char| c.is_control() && !c.is_ascii_whitespace();
    if !text.contains(unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if unprintable(c) { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn escape(text: &str, unprintable: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if unprintable(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        for text in ["blk.0.attn_q.weight", "naïve \u{1f40b} \\n \"x\" {y}", ""] {
            assert_eq!(printable(text), text);
        }
        assert_eq!(printable("a\n\u{1b}[2Jb\u{7f}\u{9b}"), "a\\n\\u{1b}[2Jb\\u{7f}\\u{9b}");
        assert_eq!(printable_lines("a\n\rb"), "a\n\\rb");
        let json = serde_json::to_string_pretty(&["a\u{9b}\n\u{1b}\u{7f}", "b"]).unwrap();
        assert_eq!(printable_json(&json), "[\n  \"a\\u009b\\n\\u001b\\u007f\",\n  \"b\"\n]");
        let parse = |json: &str| serde_json::from_str::<Vec<String>>(json).unwrap();
        assert_eq!(parse(&printable_json(&json)), parse(&json));
        assert_eq!(printable_path(Path::new("in/a\tb")), "in/a\\tb");
    }
}
