//! A statistics file of a model and a text.

use std::path::Path;

use kquant_formats::FormatError;
use kquant_formats::hessian::{BlockRange, Blocks, Cut, Description, Group, HessianWriter, packed};

use sha2::{Digest, Sha256};

use super::hessians::Hessians;
use super::{Part, PartError, collect};
use crate::evaluate::{Chunks, Run};
use crate::model::{LinearGroup, Model, ModelError, Pass, block_tokens};
use crate::verify::Hex;

/// Every how many blocks of text one is held out.
pub(crate) const HELD_OUT_EVERY: u32 = 8;

/// A text and which part of it is wanted.
pub struct Text<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bytes: their SHA-256 tells it from others.
    pub bytes: &'a [u8],
    /// All of it.
    pub chunks: &'a Chunks,
    /// What is wanted of it.
    pub part: Part,
}

/// Why a statistics file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The text has no such part.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The model cannot be run, or what it computes is of no use.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file cannot be written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The sums do not fit.
    #[error(
        "the Hessians of all layers take {all} bytes and those of one layer {layer}, too much for --memory {memory}. One layer \
         at a time is enough when the hidden states of the text fit beside it: give --memory {enough}, or less text with \
         --part 1/N, --part 2/N and so on, and add up the files with kquant imatrix merge"
    )]
    Memory {
        /// Bytes of all layers' sums.
        all: u64,
        /// Bytes of the largest layer's.
        layer: u64,
        /// Bytes allowed.
        memory: u64,
        /// Bytes that would be enough.
        enough: u64,
    },
}

/// Runs `model` over a part of a text and writes the statistics file `path`; an existing one is replaced only if `force` is set.
/// The output projection's Hessian is collected only if `with_output`. Returns what the file is of.
///
/// # Errors
/// [`GatherError`]; nothing is left behind then.
pub fn gather(
    model: &Model,
    text: &Text,
    (path, force): (&Path, bool),
    with_output: bool,
    run: &Run,
) -> Result<Description, GatherError> {
    let (range, chunks) = text.part.cut(text.chunks)?;
    let layers = (0..model.hyper.layers).map(|layer| model.linear_groups(layer));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let output = if with_output { vec![model.output_group()] } else { Vec::new() };
    let share = share_memory(model, &chunks, &layers, &output, run)?;
    let groups: Vec<LinearGroup> = layers.into_iter().flatten().chain(output).collect();
    let context = chunks.context();
    let cut = Cut {
        context: context as u32,
        block_tokens: block_tokens(context) as u32,
        held_out_every: HELD_OUT_EVERY,
    };
    let described =
        |g: &LinearGroup| Group { tensors: g.tensors.clone(), columns: g.columns, matrices: g.matrices };
    let description = Description {
        datasets: vec![text.name.to_owned()],
        chunks: chunks.len() as u32,
        cut,
        blocks: Blocks::of(
            &Sha256::digest(text.bytes).hex(),
            BlockRange { first: range.start, end: range.end },
        ),
        groups: groups.iter().map(described).collect(),
    };
    let writer = HessianWriter::create(path, &description, force)?;
    let mut hessians = Hessians::new(&groups, writer, cut, range.start, share.layer_by_layer);
    let pass = Run { memory: share.pass, cancel: run.cancel, progress: run.progress };
    collect(model, &chunks, &mut hessians, with_output, &pass)?;
    hessians.finish().map_err(ModelError::from)?;
    Ok(description)
}

/// How the memory is divided.
struct Share {
    /// For the pass, in bytes.
    pass: u64,
    /// Whether the sums of one layer are held, and not of all.
    layer_by_layer: bool,
}

fn share_memory(
    model: &Model,
    chunks: &Chunks,
    layers: &[Vec<LinearGroup>],
    output: &[LinearGroup],
    run: &Run,
) -> Result<Share, GatherError> {
    let group_bytes = |g: &LinearGroup| 16 * (packed(g.columns) * g.matrices) as u64;
    let bytes = |groups: &[LinearGroup]| groups.iter().map(group_bytes).sum::<u64>();
    let layer = layers.iter().map(|groups| bytes(groups)).max().unwrap_or(0).max(bytes(output));
    let all = layers.iter().map(|groups| bytes(groups)).sum::<u64>() + bytes(output);
    let pass = |memory: u64| {
        let context = chunks.context();
        let pass = Pass { context, memory, cancel: run.cancel, progress: run.progress };
        model.chunks_at_once(&pass, 1)
    };
    let beside = run.memory.saturating_sub(layer);
    if pass(beside).is_ok_and(|at_once| at_once >= chunks.len()) {
        return Ok(Share { pass: beside, layer_by_layer: true });
    }
    let beside = run.memory.saturating_sub(all);
    match pass(beside) {
        Ok(_) => Ok(Share { pass: beside, layer_by_layer: false }),
        Err(ModelError::Memory { needed }) => {
            // A tile takes no more than half of what the layer leaves; the other half must hold the hidden states.
            let hidden = (chunks.tokens().len() * model.hyper.hidden * 4) as u64;
            let enough = (layer + needed + 2 * hidden).min(all + needed);
            Err(GatherError::Memory { all, layer, memory: run.memory, enough })
        }
        Err(error) => Err(error.into()),
    }
}
