//! The writing system of a token.

use unicode_script::{Script, UnicodeScript};

/// The name of the group of tokens without letters.
const SIGNS: &str = "digits, signs, spaces";
/// The name of the group of tokens that begin or end within a character.
const PARTS: &str = "parts of characters";
/// The name of the group of control tokens and the like.
const NO_TEXT: &str = "no text";

/// Returns the name of the script of the first letter of the token whose bytes are `piece`, such as `Latin`, `Cyrillic` or `Han`, by the
/// Unicode property of that name; a group of its own for tokens without one.
pub fn script(piece: &[u8]) -> &'static str {
    if piece.is_empty() {
        return NO_TEXT;
    }
    let mut chunks = piece.utf8_chunks();
    let letter = |c: char| !matches!(c.script(), Script::Common | Script::Inherited | Script::Unknown);
    match chunks.clone().flat_map(|chunk| chunk.valid().chars()).find(|&c| letter(c)) {
        Some(c) => c.script().full_name(),
        None if chunks.any(|chunk| !chunk.invalid().is_empty()) => PARTS,
        None => SIGNS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letter_decides() {
        let of = |text: &str| script(text.as_bytes());
        assert_eq!(
            (of(" the"), of("\u{2581}\u{0434}\u{0430}"), of("2\u{6f22}")),
            ("Latin", "Cyrillic", "Han")
        );
        assert_eq!((of("42"), of(" ..."), of("")), (SIGNS, SIGNS, NO_TEXT));
        assert_eq!((script(&[0xe6, 0xbc]), script(b"a\xe6"), script(b"1\xff")), (PARTS, "Latin", PARTS));
    }
}
