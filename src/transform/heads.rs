//! A model with some of its attention heads.

use std::sync::Arc;

use kquant_formats::gguf::Value;

use super::channels::replaced;
use crate::arch;
use crate::convert::Converted;
use crate::graph::{Hyper, KeyError, architecture};
use crate::tensor::{MappedTensor, Selection, Stash, TensorName};

/// Architectures whose heads stock llama.cpp takes to be as many as the keys say. With others it takes queries or the attention's output
/// to be as wide as the stream.
const FREE: [&str; 9] =
    ["gemma", "gemma2", "gemma3", "gpt-oss", "granite", "llama", "qwen3", "qwen3moe", "smollm3"];

/// The reason why heads cannot be taken out of a converted model.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// A key of the model is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Readers of the file expect other heads.
    #[error(
        "heads of architecture `{0}` cannot be cut, since stock llama.cpp takes them to be as wide together as the stream, or latent; \
         possible are {free}", free = FREE.join(", ")
    )]
    Family(String),
    /// The factor of attention scores would change.
    #[error(
        "the attention scores of this `{0}` are scaled by the number of heads, which therefore cannot change"
    )]
    Scale(String),
    /// A tensor has no rows for each head.
    #[error(
        "tensor `{tensor}` has {rows} rows for {heads} heads of {width}, so that rows cannot be taken by head"
    )]
    Rows {
        /// GGUF name of the tensor.
        tensor: String,
        /// Its number of rows, or of elements.
        rows: u64,
        /// Number of heads.
        heads: usize,
        /// Width of a head.
        width: usize,
    },
}

/// Returns an error if heads of `input` cannot be cut; reads no tensor data.
///
/// # Errors
/// [`HeadsError`], by the family.
pub fn check_heads(input: &Converted) -> Result<(), HeadsError> {
    hyper(input).map(|_| ())
}

/// Returns `input` with the key-value heads `kept[layer]` of each layer alone, all of the same number, and the query heads that attend to
/// them, with the weights in `changed` in the place of those of the same name and shape.
///
/// # Errors
/// [`HeadsError`], when the family's heads cannot be cut, or a tensor has no rows for them.
pub fn keep_heads(
    input: &Converted,
    kept: &[Arc<[u32]>],
    changed: &Arc<Stash>,
) -> Result<Converted, HeadsError> {
    let (family, old) = hyper(input)?;
    let tensors = input.tensors.iter().map(|tensor| {
        let tensor = replaced(tensor, changed);
        let kept = TensorName(&tensor.name).layer().and_then(|layer| kept.get(layer as usize));
        kept.map_or_else(|| Ok(tensor.clone()), |kept| left(&tensor, kept, &old))
    });
    let tensors = tensors.collect::<Result<_, _>>()?;
    let groups = kept.first().map_or(0, |kept| kept.len());
    let mut out = Converted { tensors, ..input.clone() };
    // The width of a head must not follow from the number of heads.
    for (key, number) in [
        ("head_count", old.heads / old.kv_heads * groups),
        ("head_count_kv", groups),
        ("key_length", old.head),
        ("value_length", old.value),
    ] {
        out.metadata.set(format!("{family}.attention.{key}"), Value::U32(number as u32));
    }
    let (_, new) = hyper(&out)?;
    let but_for_heads = Hyper { heads: old.heads, kv_heads: old.kv_heads, ..new };
    match but_for_heads == old {
        true => Ok(out),
        false => Err(HeadsError::Scale(family)),
    }
}

/// Returns the architecture of `input` and its hyper-parameters, if its heads can be cut.
fn hyper(input: &Converted) -> Result<(String, Hyper), HeadsError> {
    let family = architecture(&input.metadata)?.to_owned();
    let graph = arch::graph(&family).filter(|_| FREE.contains(&family.as_str()));
    let graph = graph.ok_or_else(|| HeadsError::Family(family.clone()))?;
    let hyper = input.hyper(graph)?;
    if hyper.kv_list.is_some() {
        let key = format!("{family}.attention.head_count_kv");
        return Err(KeyError {
            key,
            what: "is a list, and heads that differ between layers cannot be cut".into(),
        }
        .into());
    }
    Ok((family, hyper))
}

/// Takes what belongs to the key-value heads `kept`, if the tensor has something for each head.
fn left(tensor: &MappedTensor, kept: &[u32], hyper: &Hyper) -> Result<MappedTensor, HeadsError> {
    let Hyper { heads, kv_heads, head, value, .. } = *hyper;
    let Some(kind) = TensorName(&tensor.name).kind() else { return Ok(tensor.clone()) };
    let per_group = heads / kv_heads;
    let (number, width) = match kind.trim_end_matches(".bias") {
        "attn_q" => (heads, head),
        "attn_k" => (kv_heads, head),
        "attn_v" => (kv_heads, value),
        "attn_output" if !tensor.is_bias() => (heads, value),
        "attn_sinks" => (heads, 1),
        _ => return Ok(tensor.clone()),
    };
    let by_columns = tensor.is_bias() || kind == "attn_output";
    let rows = if by_columns { tensor.columns() } else { tensor.rows() };
    if rows != (number * width) as u64 {
        return Err(HeadsError::Rows { tensor: tensor.name.clone(), rows, heads: number, width });
    }
    // A key-value head stands for as many rows as the heads of its group have.
    let each = if number == heads { per_group * width } else { width } as u32;
    let taken: Arc<[u32]> = kept.iter().flat_map(|&group| group * each..(group + 1) * each).collect();
    let of = if by_columns { Selection::of_columns } else { Selection::of_rows };
    Ok(tensor.select(of(taken)))
}
