//! The wire format of protocol buffers: fields with a number and a value
//! (<https://protobuf.dev/programming-guides/encoding/>).

use crate::cursor::Cursor;
use crate::error::{DAMAGED, FormatError, Result};

/// The value of a field as it is stored.
pub(super) enum Content<'a> {
    Varint(u64),
    Bits32(u32),
    Bits64,
    /// A text, bytes or a message.
    Bytes(Cursor<'a>),
}

/// A field with its number, its value and its place in the file.
pub(super) struct Field<'a> {
    pub(super) number: u64,
    content: Content<'a>,
    at: Cursor<'a>,
}

/// Reads the next field of a message; `None` at its end.
pub(super) fn next<'a>(c: &mut Cursor<'a>) -> Result<Option<Field<'a>>> {
    if c.remaining() == 0 {
        return Ok(None);
    }
    let at = c.clone();
    let tag = varint(c)?;
    let number = tag >> 3;
    let content = match tag & 7 {
        _ if number == 0 => return Err(at.malformed("a field has number 0", DAMAGED)),
        0 => Content::Varint(varint(c)?),
        1 => {
            c.take(8, &format_args!("field {number}"))?;
            Content::Bits64
        }
        2 => {
            let length = varint(c)?;
            Content::Bytes(c.part(length, &format_args!("field {number}"))?)
        }
        5 => Content::Bits32(c.number(&format_args!("field {number}"))?),
        kind => {
            return Err(at.malformed(format!("field {number} is of the unknown wire type {kind}"), DAMAGED));
        }
    };
    Ok(Some(Field { number, content, at }))
}

/// Reads the next field of a message with its bytes as they stand in `file`, of which `c` is a part; `None` at its end.
pub(super) fn next_with_bytes<'a>(
    c: &mut Cursor<'a>,
    file: &'a [u8],
) -> Result<Option<(Field<'a>, &'a [u8])>> {
    let start = c.offset() as usize;
    let Some(field) = next(c)? else { return Ok(None) };
    let bytes = file.get(start..c.offset() as usize).unwrap_or_default();
    Ok(Some((field, bytes)))
}

/// Appends a whole number as field `number`.
pub(super) fn write_varint(out: &mut Vec<u8>, number: u64, value: u64) {
    append(out, number << 3);
    append(out, value);
}

/// Appends a message as field `number`.
pub(super) fn write_bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    append(out, number << 3 | 2);
    append(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends an integer of 7 bits per byte, the lowest bits first.
fn append(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads an integer of 7 bits per byte, the lowest bits first.
fn varint(c: &mut Cursor) -> Result<u64> {
    let at = c.clone();
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte: u8 = c.number(&"a number")?;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            break;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(at.malformed("a number has more than 64 bits", DAMAGED))
}

impl<'a> Field<'a> {
    pub(super) fn boolean(&self) -> Result<bool> {
        self.unsigned().map(|v| v != 0)
    }

    /// Returns the value of an `int32` field. Negative numbers are stored in 64 bits, of which the lower half counts.
    pub(super) fn int32(&self) -> Result<i32> {
        self.unsigned().map(|v| v as i32)
    }

    pub(super) fn unsigned(&self) -> Result<u64> {
        match self.content {
            Content::Varint(v) => Ok(v),
            _ => Err(self.mismatch("a whole number")),
        }
    }

    pub(super) fn float(&self) -> Result<f32> {
        match self.content {
            Content::Bits32(v) => Ok(f32::from_bits(v)),
            _ => Err(self.mismatch("a float")),
        }
    }

    pub(super) fn message(&self) -> Result<Cursor<'a>> {
        match &self.content {
            Content::Bytes(c) => Ok(c.clone()),
            _ => Err(self.mismatch("a message")),
        }
    }

    pub(super) fn bytes(&self) -> Result<&'a [u8]> {
        let mut c = self.message()?;
        c.take(c.remaining(), &"a field")
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        let mut c = self.message()?;
        c.text(c.remaining(), &format_args!("field {}", self.number))
    }

    /// Returns an error about this field.
    pub(super) fn malformed(&self, what: String) -> FormatError {
        self.at.malformed(what, DAMAGED)
    }

    fn mismatch(&self, expected: &str) -> FormatError {
        self.malformed(format!("field {} is not {expected}", self.number))
    }
}
