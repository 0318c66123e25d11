//! A SentencePiece model with some of its pieces.

use std::path::Path;

use super::{SentencePiece, wire};
use crate::cursor::Cursor;
use crate::error::Result;
use crate::whole;

/// Field of a piece in the model, of the trainer's settings, and of texts with their pieces, which a reader checks.
const PIECE: u64 = 1;
const TRAINER: u64 = 2;
const TESTS: u64 = 4;

/// Fields of the trainer's settings: the size of the vocabulary, and the ids of unknown, beginning, end and padding.
const SIZE: u64 = 4;
const IDS: [u64; 4] = [40, 41, 42, 43];

/// Number that stands for no id, as an `int32` is stored.
const NONE: u64 = -1i64 as u64;

/// Returns the model at `path` with the pieces alone whose ids `keeps` returns true for; the ids of roles follow, and
/// everything else is as it was.
///
/// # Errors
/// Fails as [`SentencePiece::open`] does.
pub fn trimmed(path: &Path, keeps: impl Fn(u64) -> bool) -> Result<Vec<u8>> {
    let model = SentencePiece::open(path)?;
    let new_id = |id: u32| match keeps(id.into()) {
        true => (0..u64::from(id)).filter(|&id| keeps(id)).count() as u64,
        false => NONE,
    };
    let ids = [model.unknown_id, model.bos_id, model.eos_id, model.pad_id].map(|id| id.map_or(NONE, new_id));
    let size = (0..model.pieces.len() as u64).filter(|&id| keeps(id)).count() as u64;
    let model = whole::read(path, whole::LIST)?;
    let c = &mut Cursor::new(path, &model);
    let (mut out, mut piece, mut said) = (Vec::new(), 0, false);
    while let Some((field, bytes)) = wire::next_with_bytes(c, &model)? {
        match field.number {
            PIECE => {
                if keeps(piece) {
                    out.extend_from_slice(bytes);
                }
                piece += 1;
            }
            TRAINER => {
                let others = settings(&mut field.message()?, &model)?;
                wire::write_bytes(&mut out, TRAINER, &with_ids(others, size, ids));
                said = true;
            }
            TESTS => {}
            _ => out.extend_from_slice(bytes),
        }
    }
    if !said {
        wire::write_bytes(&mut out, TRAINER, &with_ids(Vec::new(), size, ids));
    }
    Ok(out)
}

/// Returns the trainer's settings in `c`, a part of `file`, without the size of the vocabulary and the ids of roles.
fn settings<'a>(c: &mut Cursor<'a>, file: &'a [u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((field, bytes)) = wire::next_with_bytes(c, file)? {
        if field.number != SIZE && !IDS.contains(&field.number) {
            out.extend_from_slice(bytes);
        }
    }
    Ok(out)
}

/// Adds the size of the vocabulary and the ids of roles, which need not have been said before, to the trainer's settings.
fn with_ids(mut settings: Vec<u8>, size: u64, ids: [u64; 4]) -> Vec<u8> {
    wire::write_varint(&mut settings, SIZE, size);
    IDS.into_iter().zip(ids).for_each(|(number, id)| wire::write_varint(&mut settings, number, id));
    settings
}
