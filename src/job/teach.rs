//! A teacher's predictions over a text, written to a file from which students are trained.

use std::path::Path;

use kquant_formats::FormatError;
use kquant_formats::gguf::Value;
use kquant_formats::targets::{Description, TargetsWriter};

use crate::context::{Context, Unit};
use crate::distill::{DistillError, predict};
use crate::model::{Model, ModelError};
use crate::text::{Chunks, Part, PartError, chunks_per_block};

/// What a teacher's file is made of.
#[derive(Clone, Copy)]
pub struct TeachRequest<'a> {
    /// The text, in the tokens of `student` if there is one, else in the teacher's.
    pub chunks: &'a Chunks,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
    /// The student whose tokens the text is in, which the teacher has, too.
    pub student: Option<&'a Model>,
    /// The part of the text.
    pub part: Part,
    /// Likeliest tokens that are kept after each token.
    pub top: usize,
}

/// Why a teacher's file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TeachError {
    /// The models have different tokens.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The text has no such part.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The teacher cannot be run.
    #[error(transparent)]
    Run(#[from] Box<DistillError>),
}

/// Runs `teacher` over a text and writes what it predicts to `path`; an existing file is replaced only if `force` is set. Returns
/// what the file states.
///
/// # Errors
/// [`TeachError`]; the file is not there then.
pub fn teach(
    teacher: &Model,
    request: &TeachRequest,
    (path, force): (&Path, bool),
    run: &Context,
) -> Result<Description, TeachError> {
    let (blocks, chunks) = request.part.cut(request.chunks)?;
    let ids = request.student.map(|student| student.ids_in(teacher)).transpose()?.flatten();
    let id = |&token: &u32| ids.as_ref().map_or(token, |ids| ids[token as usize]);
    let tokens: Vec<u32> = chunks.tokens().iter().map(id).collect();
    let first = blocks.start * chunks_per_block(chunks.context()) as u64;
    let name = teacher.metadata().get("general.name").and_then(Value::as_str);
    let description = Description {
        teacher: name.unwrap_or("teacher").to_owned(),
        vocabulary: teacher.metadata().clone(),
        logits: teacher.vocab_size(),
        text_sha256: request.text_sha256.to_owned(),
        context: chunks.context(),
        top: request.top.min(teacher.known_tokens()),
        chunks: first..first + chunks.len() as u64,
        of: request.chunks.len() as u64,
    };
    let mut file = TargetsWriter::create(path, &description, &tokens, force)?;
    run.progress.begin((tokens.len() * (teacher.hyper.layers + 1)) as u64, Unit::Work);
    let text = (&tokens[..], chunks.context());
    predict(teacher, text, description.top, run, |rows| Ok(file.append(&rows)?)).map_err(Box::new)?;
    file.finish()?;
    Ok(description)
}
