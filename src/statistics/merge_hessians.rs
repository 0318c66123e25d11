//! Addition of several statistics files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use kquant_formats::FormatError;
use kquant_formats::hessian::{
    Blocks, Description, Group, GroupSums, Half, HessianFile, HessianWriter, Overlap,
};
use kquant_formats::imatrix::Entry;

use super::exact::ExactSums;

/// The reason why statistics files cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum HessianMergeError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The texts were cut into chunks or blocks of different sizes.
    #[error(
        "{} has chunks of {} tokens, {} of {}, or other blocks: such statistics cannot be added up; calibrate again with the \
         same --context",
        .first.0.display(), .first.1, .second.0.display(), .second.1
    )]
    Cut {
        /// One file and its tokens per chunk.
        first: (PathBuf, u32),
        /// Another file and its tokens per chunk.
        second: (PathBuf, u32),
    },
    /// A group is missing in one file or has different shapes.
    #[error(
        "{} does not have the same tensors as {}: `{group}` is not alike in both. They are of different models, or one was \
         made without --output-tensor",
        .file.display(), .other.display()
    )]
    Groups {
        /// Name of the group.
        group: String,
        /// One of the two files.
        file: PathBuf,
        /// The other file.
        other: PathBuf,
    },
    /// Only some files have Fisher matrices, or their labels differ.
    #[error(
        "{} has {}, {} has {}; calibrate all parts with --fisher and the same --seed, or all without",
        .first.0.display(), .first.1, .second.0.display(), .second.1
    )]
    Fishers {
        /// One file and what it has.
        first: (PathBuf, String),
        /// Another file and what it has.
        second: (PathBuf, String),
    },
    /// A part of a text is in two files.
    #[error("{}: {overlap}; give each part once", .file.display())]
    Twice {
        /// Path of one of the files.
        file: PathBuf,
        /// The part that another file has as well.
        overlap: Overlap,
    },
    /// The merge was cancelled from outside.
    #[error("interrupted")]
    Interrupted,
}

/// Adds the statistics files `paths` and writes the sum to `out`; an existing file is replaced only if `force` is set.
/// The order of the paths changes no byte. Returns the description of the sum.
///
/// # Errors
/// Fails with a [`HessianMergeError`]; no file is left behind then.
pub fn merge_hessians(
    paths: &[PathBuf],
    (out, force): (&Path, bool),
    cancel: &AtomicBool,
) -> Result<Description, HessianMergeError> {
    let mut files = paths.iter().map(|path| HessianFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    files.sort_by(|a, b| place(a).cmp(&place(b)));
    let description = describe_sum(&files)?;
    let writer = HessianWriter::create(out, &description, force)?;
    for (number, group) in description.groups.iter().enumerate() {
        write_sums(&writer, &files, number, group)?;
        for place in (0..group.matrices).map(|matrix| (number, matrix)) {
            for half in Half::ALL {
                let mut sums = vec![0.0; group.packed()];
                for file in &files {
                    if cancel.load(Ordering::Relaxed) {
                        return Err(HessianMergeError::Interrupted);
                    }
                    file.add_outer(place, half, &mut sums)?;
                }
                writer.write_outer(place, half, &sums)?;
            }
        }
    }
    for (number, fisher) in description.fishers.iter().flat_map(|all| &all.tensors).enumerate() {
        let (mut sums, mut tokens) = (vec![0.0; fisher.values()], 0);
        for file in &files {
            if cancel.load(Ordering::Relaxed) {
                return Err(HessianMergeError::Interrupted);
            }
            file.add_fisher(number, &mut sums)?;
            tokens += file.fisher_tokens(number);
        }
        writer.write_fisher(number, tokens, &sums)?;
    }
    writer.finish()?;
    Ok(description)
}

/// Returns the key that files are sorted by: no two files that can be added have the same.
fn place(file: &HessianFile) -> Option<(&str, u64)> {
    let (text, ranges) = file.description().blocks.by_text().iter().next()?;
    Some((text, ranges.first()?.first))
}

fn describe_sum(files: &[HessianFile]) -> Result<Description, HessianMergeError> {
    let mut blocks = Blocks::default();
    let (mut chunks, mut datasets) = (0u32, Vec::new());
    for file in files {
        check_alike(&files[0], file)?;
        let of = file.description();
        let twice = |overlap| HessianMergeError::Twice { file: file.path().to_owned(), overlap };
        blocks.add(&of.blocks).map_err(twice)?;
        chunks = chunks.saturating_add(of.chunks);
        datasets.extend(of.datasets.iter().cloned());
    }
    datasets.sort_unstable();
    datasets.dedup();
    let cut = files.first().map(|f| f.description().cut);
    let none =
        || FormatError::Invalid { what: "there is no file to add up".into(), hint: "give one at least" };
    let groups = files.first().map(|f| f.description().groups.clone()).unwrap_or_default();
    let fishers = files.first().and_then(|f| f.description().fishers.clone());
    Ok(Description { datasets, chunks, cut: cut.ok_or_else(none)?, blocks, groups, fishers })
}

fn check_alike(first: &HessianFile, other: &HessianFile) -> Result<(), HessianMergeError> {
    let (a, b) = (first.description(), other.description());
    if a.cut != b.cut {
        let of = |file: &HessianFile| (file.path().to_owned(), file.description().cut.context);
        return Err(HessianMergeError::Cut { first: of(first), second: of(other) });
    }
    let lacks = |file: &Description, group| !file.groups.contains(group);
    let odd = a.groups.iter().find(|g| lacks(b, g)).or_else(|| b.groups.iter().find(|g| lacks(a, g)));
    let odd = odd.or_else(|| a.groups.iter().zip(&b.groups).find(|(a, b)| a != b).map(|(a, _)| a));
    match odd {
        None => check_fishers(first, other),
        Some(group) => Err(HessianMergeError::Groups {
            group: group.name().to_owned(),
            file: other.path().to_owned(),
            other: first.path().to_owned(),
        }),
    }
}

fn check_fishers(first: &HessianFile, other: &HessianFile) -> Result<(), HessianMergeError> {
    let (a, b) = (&first.description().fishers, &other.description().fishers);
    if a == b {
        return Ok(());
    }
    let of = |file: &HessianFile| {
        let what = match &file.description().fishers {
            None => "no Fisher matrices".to_owned(),
            Some(all) => format!("{} Fisher matrices of labels by seed {}", all.tensors.len(), all.seed),
        };
        (file.path().to_owned(), what)
    };
    Err(HessianMergeError::Fishers { first: of(first), second: of(other) })
}

/// Adds the sums of group `number` other than its outer products.
fn write_sums(
    writer: &HessianWriter,
    files: &[HessianFile],
    number: usize,
    group: &Group,
) -> Result<(), FormatError> {
    let (columns, matrices) = (group.columns, group.matrices);
    let mut squares = ExactSums::zeros(columns * matrices);
    let mut tokens = vec![[0; 2]; matrices];
    for file in files {
        let [high, low] = file.squares(number)?;
        squares.add(&ExactSums { high, low });
        for (matrix, tokens) in tokens.iter_mut().enumerate() {
            for half in Half::ALL {
                tokens[half as usize] += file.tokens((number, matrix), half);
            }
        }
    }
    let entry = Entry {
        columns,
        matrices,
        sums: squares.high.iter().map(|&sum| sum as f32).collect(),
        counts: tokens.iter().map(|[train, held_out]| (train + held_out) as f32).collect(),
    };
    let sums = GroupSums { entry: &entry, high: &squares.high, low: &squares.low, tokens: &tokens };
    writer.write_sums(number, &sums)
}
