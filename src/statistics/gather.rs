//! Gathering of a statistics file from a model and a text.

use std::ops::Range;
use std::path::Path;

use kquant_formats::FormatError;
use kquant_formats::hessian::{BlockRange, Blocks, Cut, Description, Fishers, Group, HessianWriter, packed};

use super::fisher_sums::{Sink, fishers};
use super::fishers::{FisherJob, Labelled};
use super::hessians::Hessians;
use crate::context::Context;
use crate::model::{LinearGroup, Model, ModelError, ObserveError, Pass};
use crate::statistics::collect;
use crate::text::{Chunks, HELD_OUT_EVERY, Part, PartError, block_tokens};

/// A text and the part of it that is wanted.
pub struct Text<'a> {
    /// Name of the text.
    pub name: &'a str,
    /// SHA-256 that identifies the text, in hexadecimal.
    pub sha256: &'a str,
    /// Chunks of the whole text.
    pub chunks: &'a Chunks,
    /// The part of the text to gather statistics from.
    pub part: Part,
}

/// The reason why a statistics file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The text has no such part.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The model cannot be run, or its values are of no use.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file cannot be written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The sums do not fit the memory budget.
    #[error(
        "the Hessians of all layers take {all} bytes and those of one layer {layer}, too much for --memory {memory}. One layer \
         at a time is enough when the hidden states of the text fit beside it: give --memory {enough}, or less text with \
         --part 1/N, --part 2/N and so on, and add up the files with kquant imatrix merge"
    )]
    Memory {
        /// Size of all layers' sums, in bytes.
        all: u64,
        /// Size of the largest layer's sums, in bytes.
        layer: u64,
        /// The memory budget, in bytes.
        memory: u64,
        /// A budget that would suffice, in bytes.
        enough: u64,
    },
}

/// The statistics to collect besides the Hessians of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// True if the output projection's Hessian is collected.
    pub output_tensor: bool,
    /// Seed of the labels for Fisher matrices of outputs; `None` if there are to be none.
    pub fisher: Option<u64>,
}

/// The result of gathering a statistics file.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    /// The description that the file holds.
    pub description: Description,
    /// The loss and times of the backward pass, if there was one.
    pub labelled: Option<Labelled>,
}

/// Runs `model` over a part of a text and writes the statistics file `path`; an existing file is replaced only if `force`
/// is set.
///
/// # Errors
/// Fails with a [`GatherError`]; no file is left behind then.
pub fn gather(
    model: &Model,
    text: &Text,
    (path, force): (&Path, bool),
    wanted: Wanted,
    run: &Context,
) -> Result<Gathered, GatherError> {
    let (range, chunks) = text.part.cut(text.chunks)?;
    let layers = (0..model.hyper.layers).map(|layer| model.linear_groups(layer));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let output = if wanted.output_tensor { vec![model.output_group()] } else { Vec::new() };
    let sums = Sums::of(&layers, &output);
    let groups: Vec<LinearGroup> = layers.into_iter().flatten().chain(output).collect();
    let description = describe(model, text, &range, &chunks, &groups, wanted)?;
    let share = match wanted.fisher {
        None => share_memory(model, &chunks, &sums, run)?,
        // The sums of one layer at a time are held, in both directions.
        Some(_) => Share { pass: run.memory, layer_by_layer: true },
    };
    let writer = HessianWriter::create(path, &description, force)?;
    let mut hessians = Hessians::new(&groups, &writer, description.cut, range.start, share.layer_by_layer);
    let run = Context { memory: share.pass, cancel: run.cancel, progress: run.progress };
    let labelled = match wanted.fisher {
        None => {
            collect(model, &chunks, &mut hessians, wanted.output_tensor, &run)?;
            None
        }
        Some(seed) => {
            let first_token = range.start * u64::from(description.cut.block_tokens);
            let job =
                FisherJob { model, chunks: &chunks, seed, first_token, with_output: wanted.output_tensor };
            let sink = InFile { writer: &writer, fishers: description.fishers.as_ref() };
            Some(job.run(&run, sums.layer, Some(&mut hessians), sink)?.1)
        }
    };
    hessians.finish().map_err(ModelError::from)?;
    writer.finish()?;
    Ok(Gathered { description, labelled })
}

fn describe(
    model: &Model,
    text: &Text,
    range: &Range<u64>,
    chunks: &Chunks,
    groups: &[LinearGroup],
    wanted: Wanted,
) -> Result<Description, ModelError> {
    let context = chunks.context();
    let cut = Cut {
        context: context as u32,
        block_tokens: block_tokens(context) as u32,
        held_out_every: HELD_OUT_EVERY,
    };
    let described =
        |g: &LinearGroup| Group { tensors: g.tensors.clone(), columns: g.columns, matrices: g.matrices };
    let fishers = wanted.fisher.map(|seed| Ok::<_, ModelError>(Fishers { seed, tensors: fishers(model)? }));
    Ok(Description {
        datasets: vec![text.name.to_owned()],
        chunks: chunks.len() as u32,
        cut,
        blocks: Blocks::of(text.sha256, BlockRange { first: range.start, end: range.end }),
        groups: groups.iter().map(described).collect(),
        fishers: fishers.transpose()?,
    })
}

/// A sink that writes Fisher matrices to a statistics file.
struct InFile<'a> {
    writer: &'a HessianWriter,
    fishers: Option<&'a Fishers>,
}

impl Sink for InFile<'_> {
    fn store(&mut self, tensor: &str, tokens: u64, sums: Vec<f64>) -> Result<(), ObserveError> {
        let tensors = self.fishers.map_or(&[][..], |all| &all.tensors);
        let number = tensors.iter().position(|fisher| fisher.tensor == tensor).unwrap_or(tensors.len());
        Ok(self.writer.write_fisher(number, tokens, &sums)?)
    }
}

/// Sizes of the Hessians' sums, in bytes.
struct Sums {
    /// Size of the largest layer's sums, or of the output projection's.
    layer: u64,
    /// Size of all sums.
    all: u64,
}

impl Sums {
    fn of(layers: &[Vec<LinearGroup>], output: &[LinearGroup]) -> Self {
        let group_bytes = |g: &LinearGroup| 16 * (packed(g.columns) * g.matrices) as u64;
        let bytes = |groups: &[LinearGroup]| groups.iter().map(group_bytes).sum::<u64>();
        Self {
            layer: layers.iter().map(|groups| bytes(groups)).max().unwrap_or(0).max(bytes(output)),
            all: layers.iter().map(|groups| bytes(groups)).sum::<u64>() + bytes(output),
        }
    }
}

/// The division of the memory.
struct Share {
    /// Memory for the pass, in bytes.
    pass: u64,
    /// True if the sums of one layer at a time are held, and not those of all layers.
    layer_by_layer: bool,
}

fn share_memory(model: &Model, chunks: &Chunks, sums: &Sums, run: &Context) -> Result<Share, GatherError> {
    let &Sums { layer, all } = sums;
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
            // A tile takes at most half of what the layer leaves, because the other half must hold the hidden states.
            let hidden = (chunks.tokens().len() * model.hyper.hidden * 4) as u64;
            let enough = (layer + needed + 2 * hidden).min(all + needed);
            Err(GatherError::Memory { all, layer, memory: run.memory, enough })
        }
        Err(error) => Err(error.into()),
    }
}
