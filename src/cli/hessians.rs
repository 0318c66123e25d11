//! What `kquant imatrix show` says of a statistics file besides its importance.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use kquant::statistics::{GroupHessians, Half, HessianFile, MatrixStatistics};
use serde::Serialize;

use super::printable::printable;
use super::table;

/// Tokens per column below which a Hessian says little.
const FEW: f64 = 4.0;

/// All that is shown of a file.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    pub statistics: &'a MatrixStatistics,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessians: Option<Hessians>,
}

/// The Hessians of a file.
#[derive(Serialize)]
pub(super) struct Hessians {
    /// Tokens of a block of text.
    block_tokens: u32,
    /// Every how many blocks one is held out.
    held_out_every: u32,
    /// Blocks seen by the SHA-256 of their text: ranges, ends excluded.
    texts: BTreeMap<String, Vec<[u64; 2]>>,
    groups: Vec<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fishers: Option<Fishers>,
}

/// The Fisher matrices of a file.
#[derive(Serialize)]
struct Fishers {
    /// By which labels were drawn.
    seed: u64,
    tensors: Vec<Fisher>,
}

/// The Fisher matrix of one tensor's outputs.
#[derive(Serialize)]
struct Fisher {
    tensor: String,
    outputs: usize,
}

/// The Hessians of one group of tensors.
#[derive(Serialize)]
struct Group {
    tensors: Vec<String>,
    columns: usize,
    train_tokens: u64,
    held_out_tokens: u64,
    /// Tokens to train by, for each column.
    tokens_per_column: f64,
}

/// What `path` has of Hessians, if it is a statistics file.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<Hessians>> {
    if !kquant_formats::hessian::HessianFile::is_at(path)? {
        return Ok(None);
    }
    let file = HessianFile::open(path)?;
    let of = file.description();
    let texts = of.blocks.by_text().iter();
    Ok(Some(Hessians {
        block_tokens: of.cut.block_tokens,
        held_out_every: of.cut.held_out_every,
        texts: texts
            .map(|(t, ranges)| (t.clone(), ranges.iter().map(|r| [r.first, r.end]).collect()))
            .collect(),
        groups: file.groups().map(|group| Group::of(&group)).collect(),
        fishers: of.fishers.as_ref().map(|all| Fishers {
            seed: all.seed,
            tensors: all
                .tensors
                .iter()
                .map(|fisher| Fisher { tensor: fisher.tensor.clone(), outputs: fisher.outputs })
                .collect(),
        }),
    }))
}

impl Group {
    fn of(group: &GroupHessians) -> Self {
        // Of experts, what one has on average.
        let matrices = group.matrices().max(1) as u64;
        let mean = |half| (0..group.matrices()).map(|m| group.tokens(m, half)).sum::<u64>() / matrices;
        let [train_tokens, held_out_tokens] = Half::ALL.map(mean);
        Self {
            tensors: group.tensors().to_vec(),
            columns: group.columns(),
            train_tokens,
            held_out_tokens,
            tokens_per_column: train_tokens as f64 / group.columns().max(1) as f64,
        }
    }
}

impl Hessians {
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let Self { block_tokens, held_out_every, .. } = self;
        writeln!(out, "\nHessians, one in {held_out_every} blocks of {block_tokens} tokens held out")?;
        let head = ["tensors", "columns", "train tokens", "held-out tokens", "train tokens per column"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.groups.iter().map(|g| {
            vec![
                g.tensors.join(", "),
                g.columns.to_string(),
                g.train_tokens.to_string(),
                g.held_out_tokens.to_string(),
                format!("{:.1}", g.tokens_per_column),
            ]
        }));
        table::write(&mut out, &rows, &[1, 2, 3, 4])?;
        if let Some(Fishers { seed, tensors }) = &self.fishers {
            writeln!(out, "Fisher matrices of {} outputs, labels drawn by seed {seed}", tensors.len())?;
        }
        for (text, ranges) in &self.texts {
            let ranges: Vec<String> = ranges.iter().map(|[a, b]| format!("{a} to {}", b - 1)).collect();
            writeln!(out, "text {}: blocks {}", printable(text), ranges.join(", "))?;
        }
        let few = self.groups.iter().filter(|g| g.tokens_per_column < FEW).count();
        if few > 0 {
            let all = self.groups.len();
            writeln!(
                out,
                "{few} of {all} have fewer than {FEW} tokens per column: calibrate with more text"
            )?;
        }
        if self.groups.iter().any(|g| g.held_out_tokens == 0) {
            writeln!(out, "nothing is held out: the text has fewer than {held_out_every} blocks")?;
        }
        Ok(())
    }
}
