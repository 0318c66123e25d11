//! SentencePiece models (`tokenizer.model`).
//!
//! Field numbers and defaults come from sentencepiece_model.proto in github.com/google/sentencepiece.

mod wire;
mod write;

use std::collections::HashSet;
use std::path::Path;

use wire::Field;
pub use write::trimmed;

use crate::cursor::Cursor;
use crate::error::{FormatError, Result};
use crate::whole;

/// The meaning of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// A piece of text.
    Normal,
    /// The stand-in for text that no piece covers.
    Unknown,
    /// A mark that text never contains, such as `<s>`.
    Control,
    /// A piece that the user asked for, which is matched before all others.
    UserDefined,
    /// A piece that is not to be used.
    Unused,
    /// One byte, written as `<0x41>`.
    Byte,
}

/// A piece of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Text of the piece, in which U+2581 stands for a space. It is not empty, and no two pieces share it.
    pub text: String,
    /// Log probability in nats, or minus the rank of the merge; finite.
    pub score: f32,
    /// Meaning of the piece.
    pub kind: PieceKind,
}

/// The way in which text is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    /// Text is cut into the likeliest sequence of pieces.
    Unigram,
    /// Neighbours are merged, the best score first.
    Bpe,
    /// Text is cut into words between spaces.
    Word,
    /// Text is cut into characters.
    Char,
}

/// A SentencePiece model.
#[derive(Debug, Clone, PartialEq)]
pub struct SentencePiece {
    /// The vocabulary, in which the index of a piece is its token id.
    pub pieces: Vec<Piece>,
    /// The way in which text is cut.
    pub model: ModelType,
    /// True if characters without a piece become bytes instead of the unknown piece.
    pub byte_fallback: bool,
    /// True if a space belongs to the end of a piece rather than to its start.
    pub whitespace_suffix: bool,
    /// Token id of the unknown piece.
    pub unknown_id: Option<u32>,
    /// Token id of the beginning of a text.
    pub bos_id: Option<u32>,
    /// Token id of the end of a text.
    pub eos_id: Option<u32>,
    /// Token id of padding.
    pub pad_id: Option<u32>,
    /// True if a space is put before the text.
    pub add_dummy_prefix: bool,
    /// True if runs of spaces, and spaces at both ends, are dropped.
    pub remove_extra_whitespaces: bool,
    /// True if spaces become U+2581.
    pub escape_whitespaces: bool,
    /// Compiled character replacements; empty for none.
    pub precompiled_charsmap: Vec<u8>,
}

/// Token ids as stored, in the order unknown, beginning, end, padding; a negative id means none.
type Ids = [i32; 4];

impl SentencePiece {
    /// Reads the model at `path`.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is no protocol buffer of a SentencePiece model, has no pieces or empty or
    /// repeated ones, or has scores that are not finite or ids outside of the vocabulary.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = whole::read(path, whole::LIST)?;
        let mut model = Self::empty();
        let mut ids: Ids = [0, 1, 2, -1];
        let c = &mut Cursor::new(path, &bytes);
        while let Some(field) = wire::next(c)? {
            match field.number {
                1 => model.pieces.push(read_piece(&field)?),
                2 => model.read_trainer(&mut ids, &mut field.message()?)?,
                3 => model.read_normalizer(&mut field.message()?)?,
                _ => {}
            }
        }
        model.finish(path, ids)
    }

    /// Returns a model without pieces that has the proto's defaults.
    fn empty() -> Self {
        Self {
            pieces: Vec::new(),
            model: ModelType::Unigram,
            byte_fallback: false,
            whitespace_suffix: false,
            unknown_id: None,
            bos_id: None,
            eos_id: None,
            pad_id: None,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            precompiled_charsmap: Vec::new(),
        }
    }

    /// Reads a TrainerSpec.
    fn read_trainer(&mut self, ids: &mut Ids, c: &mut Cursor) -> Result<()> {
        let [unknown, bos, eos, pad] = ids;
        while let Some(field) = wire::next(c)? {
            match field.number {
                3 => self.model = read_model_type(&field)?,
                24 => self.whitespace_suffix = field.boolean()?,
                35 => self.byte_fallback = field.boolean()?,
                40 => *unknown = field.int32()?,
                41 => *bos = field.int32()?,
                42 => *eos = field.int32()?,
                43 => *pad = field.int32()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a NormalizerSpec.
    fn read_normalizer(&mut self, c: &mut Cursor) -> Result<()> {
        while let Some(field) = wire::next(c)? {
            match field.number {
                2 => self.precompiled_charsmap = field.bytes()?.to_vec(),
                3 => self.add_dummy_prefix = field.boolean()?,
                4 => self.remove_extra_whitespaces = field.boolean()?,
                5 => self.escape_whitespaces = field.boolean()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks the pieces and ids of a model that is read completely.
    fn finish(mut self, path: &Path, ids: Ids) -> Result<Self> {
        const HINT: &str = "give a SentencePiece model (tokenizer.model)";
        let fault = |what: String| FormatError::malformed(path, None, what, HINT);
        let count = self.pieces.len();
        if count == 0 {
            return Err(fault("has no pieces".into()));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = self.pieces.iter().find(|p| !seen.insert(p.text.as_str())) {
            return Err(fault(format!("the piece {:?} appears twice", twice.text)));
        }
        if let Some(id) = ids.iter().find(|&&id| usize::try_from(id).is_ok_and(|id| id >= count)) {
            return Err(fault(format!("token id {id} is outside of the {count} pieces")));
        }
        [self.unknown_id, self.bos_id, self.eos_id, self.pad_id] = ids.map(|id| u32::try_from(id).ok());
        Ok(self)
    }
}

fn read_piece(whole: &Field) -> Result<Piece> {
    let c = &mut whole.message()?;
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    while let Some(field) = wire::next(c)? {
        match field.number {
            1 => piece.text = field.text()?.to_owned(),
            2 => piece.score = field.float()?,
            3 => piece.kind = read_kind(&field)?,
            _ => {}
        }
    }
    if piece.text.is_empty() {
        return Err(whole.malformed("a piece has no text".into()));
    }
    if !piece.score.is_finite() {
        return Err(whole.malformed(format!("piece {:?} has the score {}", piece.text, piece.score)));
    }
    Ok(piece)
}

fn read_kind(field: &Field) -> Result<PieceKind> {
    Ok(match field.unsigned()? {
        1 => PieceKind::Normal,
        2 => PieceKind::Unknown,
        3 => PieceKind::Control,
        4 => PieceKind::UserDefined,
        5 => PieceKind::Unused,
        6 => PieceKind::Byte,
        other => return Err(field.malformed(format!("a piece is of the unknown type {other}"))),
    })
}

fn read_model_type(field: &Field) -> Result<ModelType> {
    Ok(match field.unsigned()? {
        1 => ModelType::Unigram,
        2 => ModelType::Bpe,
        3 => ModelType::Word,
        4 => ModelType::Char,
        other => return Err(field.malformed(format!("the model is of the unknown type {other}"))),
    })
}
