//! GPT-2's alphabet of bytes: printable Latin-1 characters stand for themselves, and the other bytes, in order, are the
//! letters from U+0100 on.

/// Returns the byte that `letter` stands for.
pub(super) fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Returns the letter that stands for `byte`.
pub(super) fn letter_of(byte: u8) -> char {
    let code = u32::from(byte);
    let letter = match code {
        0x00..=0x20 => code + 0x100,
        0x7f..=0xa0 => code - 0x7f + 0x121,
        0xad => 0x143,
        _ => code,
    };
    char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::{byte_of, letter_of};

    #[test]
    fn the_alphabet_covers_each_byte_once() {
        let mut bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!([byte_of('Ġ'), byte_of('Ċ'), byte_of(' ')], [Some(b' '), Some(b'\n'), None]);
    }

    #[test]
    fn letters_and_bytes_are_inverse() {
        assert!((0..=255).all(|byte| byte_of(letter_of(byte)) == Some(byte)));
    }
}
