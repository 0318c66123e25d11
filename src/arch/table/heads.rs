//! The output projection, which is a tensor of its own (`lm_head`) or the embedding.

use super::takes::{HeadPlace, Takes};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::family::unsupported;
use crate::checkpoint::{Checkpoint, ReadError};
use crate::tensor::{MappedTensor, Source};

const OUTPUT: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// Ends of the names that an output projection has in checkpoints.
const NAMES: [&str; 2] = ["lm_head.weight", "embed_out.weight"];

/// Number of bytes of each tensor that are compared at once.
const PIECE: u64 = 1 << 20;

/// Gives `tensors` of the family called `name` the output projection that `config` asks for. Returns warnings for the
/// user.
///
/// # Errors
/// Fails when the configuration asks for a projection that is missing or that the family cannot have, and when weights
/// cannot be read.
pub(in crate::arch) fn settle(
    config: &Config,
    name: &'static str,
    takes: &Takes,
    checkpoint: &dyn Checkpoint,
    tensors: &mut Vec<MappedTensor>,
) -> Result<Option<String>, ArchError> {
    let asked = config.optional_flag("tie_word_embeddings")?;
    let tied = asked.unwrap_or(takes.tied);
    let infos = checkpoint.tensors().iter();
    let Some(head) = infos.clone().position(|t| NAMES.iter().any(|end| t.name.ends_with(end))) else {
        if asked == Some(false) && has_head(config)? {
            return Err(config.unusable("tie_word_embeddings", HEAD_MISSING).into());
        }
        return Ok(embedding_twice(name, takes, tensors));
    };
    if !tied && takes.head != HeadPlace::Embedding {
        return Ok(None);
    }
    let embedding = tensors.iter().find(|t| t.name == EMBEDDING);
    let Some(Source::Tensor { index, .. }) = embedding.map(|t| &t.source) else { return Ok(None) };
    let equal = same(checkpoint, *index, head).map_err(|e| ArchError::Read(e.to_string()))?;
    let head = infos.map(|t| t.name.as_str()).nth(head).unwrap_or_default();
    if equal {
        if takes.head == HeadPlace::Either {
            tensors.retain(|t| t.name != OUTPUT);
        }
        return Ok(None);
    }
    match takes.head {
        HeadPlace::Embedding if !tied => {
            let what = format!("an output of its own ({head}, `tie_word_embeddings` is false) is");
            Err(unsupported(config, name, what))
        }
        HeadPlace::Embedding => Ok(Some(format!(
            "{head} differs from the embedding, which is the output in {name} (`tie_word_embeddings`): the embedding counts, \
             {head} is left out"
        ))),
        HeadPlace::Either | HeadPlace::Own => Ok(Some(format!(
            "{head} differs from the embedding, though `tie_word_embeddings` makes them one: {head} counts, as in transformers \
             since 5; before, the embedding did"
        ))),
    }
}

/// Valid values of `tie_word_embeddings` if there is no output projection.
const HEAD_MISSING: &str = "a head (lm_head.weight) in the checkpoint: get the missing file, or set true if the embedding serves as the output";

/// Returns true if the class has an output projection: classes whose name ends in `Model` alone have none.
fn has_head(config: &Config) -> Result<bool, ArchError> {
    let class = config.optional_first_text(&["architectures"])?.unwrap_or_default();
    Ok(!class.ends_with("Model") || class.ends_with("HeadModel"))
}

/// Adds the embedding as the output projection if readers of the file look nowhere else.
fn embedding_twice(name: &str, takes: &Takes, tensors: &mut Vec<MappedTensor>) -> Option<String> {
    if takes.head != HeadPlace::Own || tensors.iter().any(|t| t.name == OUTPUT) {
        return None;
    }
    let embedding = tensors.iter().find(|t| t.name == EMBEDDING)?;
    let output = MappedTensor { name: OUTPUT.to_owned(), ..embedding.clone() };
    tensors.push(output);
    Some(format!("llama.cpp's {name} needs an output of its own: the embedding is written twice"))
}

/// Returns true if both tensors of `checkpoint` store the same bytes.
fn same(checkpoint: &dyn Checkpoint, a: usize, b: usize) -> Result<bool, ReadError> {
    let infos = checkpoint.tensors();
    let (Some(first), Some(second)) = (infos.get(a), infos.get(b)) else { return Ok(false) };
    if (&first.shape, first.dtype) != (&second.shape, second.dtype) {
        return Ok(false);
    }
    let (rows, columns) =
        (first.shape.first().copied().unwrap_or(1), first.shape.last().copied().unwrap_or(1));
    let step = (PIECE / checkpoint.stored_bytes(a, columns)?.max(1)).max(1);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for from in (0..rows).step_by(usize::try_from(step).unwrap_or(1)) {
        let piece = from..rows.min(from.saturating_add(step));
        if *checkpoint.fetch(a, piece.clone(), &mut left)? != *checkpoint.fetch(b, piece, &mut right)? {
            return Ok(false);
        }
    }
    Ok(true)
}
