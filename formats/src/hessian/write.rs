//! Writing of statistics files, group by group in any order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    BLOCK_TOKENS, BLOCKS, Description, F32, F64, Fisher, GROUPS, Group, HELD_OUT_EVERY, Half, SQUARES, TEXTS,
    TOKENS, VERSION, VERSION_KEY, fisher,
};
use crate::cursor::Number;
use crate::error::{FormatError, Result};
use crate::gguf::{Array, Metadata, TensorSpec, Value, layout};
use crate::imatrix::{self, Entry};
use crate::partial::PartialFile;

/// Number of values that are converted to bytes at a time.
const PIECE: usize = 1 << 16;

/// Everything that is written of a group except its outer products.
#[derive(Debug, Clone, Copy)]
pub struct GroupSums<'a> {
    /// Sums of squares `[matrices][columns]` and their counts, as an importance matrix has them.
    pub entry: &'a Entry,
    /// Exact sums of squares, rounded to f64, `[matrices][columns]`.
    pub high: &'a [f64],
    /// Errors of that rounding to f64, `[matrices][columns]`.
    pub low: &'a [f64],
    /// Number of tokens in each half, `[matrices]`.
    pub tokens: &'a [[u64; 2]],
}

/// A statistics file under construction, whose parts are written in any order. It gets its name only when it is finished.
#[derive(Debug)]
pub struct HessianWriter {
    file: PartialFile,
    groups: Vec<Group>,
    fishers: Vec<Fisher>,
    places: BTreeMap<String, u64>,
    /// Number of parts still to be written; each is written once.
    missing: AtomicUsize,
}

impl HessianWriter {
    /// Starts the file at `path`; an existing file is replaced only if `force` is set.
    ///
    /// # Errors
    /// Fails when the description has no groups or contradicts itself, or the file cannot be made.
    pub fn create(path: &Path, description: &Description, force: bool) -> Result<Self> {
        let fishers = description.fishers.as_ref().map_or(Vec::new(), |all| all.tensors.clone());
        let mut specs = specs(&description.groups);
        specs.extend(fishers.iter().flat_map(fisher::specs));
        let layout = layout(&metadata(description)?, &specs)?;
        let file = PartialFile::create(path, layout.total, force)?;
        file.write_at(0, &layout.header)?;
        let places = specs.into_iter().map(|spec| spec.name).zip(layout.offsets).collect();
        let of_groups: usize = description.groups.iter().map(|group| 1 + 2 * group.matrices).sum();
        let missing = AtomicUsize::new(of_groups + fishers.len());
        Ok(Self { file, groups: description.groups.clone(), fishers, places, missing })
    }

    /// Writes the sums of group number `group`.
    ///
    /// # Errors
    /// Fails when the shapes are not the group's, a value cannot be a sum of squares, or the system cannot write.
    pub fn write_sums(&self, group: usize, sums: &GroupSums) -> Result<()> {
        let found = self.group(group)?;
        let (name, n, matrices) = (found.name(), found.columns, found.matrices);
        let GroupSums { entry, high, low, tokens } = sums;
        let lengths = [entry.columns * matrices, entry.sums.len(), high.len(), low.len()];
        let counts = [entry.matrices, entry.counts.len(), tokens.len()];
        if entry.columns != n || lengths != [n * matrices; 4] || counts != [matrices; 3] {
            return Err(invalid(format!("group {name:?} has {n} columns, but sums of {lengths:?}")));
        }
        imatrix::check_entry(name, entry)?;
        if !low.iter().all(|v| v.is_finite()) || !high.iter().all(|v| v.is_finite()) {
            return Err(invalid(format!("group {name:?}: an exact sum is not finite")));
        }
        for tensor in &found.tensors {
            self.write(tensor, imatrix::SUMS, 0, entry.sums.iter().copied())?;
            self.write(tensor, imatrix::COUNTS, 0, entry.counts.iter().copied())?;
        }
        self.write(name, SQUARES, 0, high.iter().chain(low.iter()).copied())?;
        self.write(name, TOKENS, 0, tokens.iter().flatten().map(|&n| n as f64))?;
        self.missing.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes half `half` of the outer products of matrix number `matrix` of group number `group`; `sums` is a packed upper
    /// triangle, `[columns (columns + 1) / 2]`.
    ///
    /// # Errors
    /// Fails when there is no such matrix, `sums` has another size, a value is not finite, or the system cannot write.
    pub fn write_outer(&self, (group, matrix): (usize, usize), half: Half, sums: &[f64]) -> Result<()> {
        let found = self.group(group)?;
        if matrix >= found.matrices {
            return Err(invalid(format!("group {:?} has no matrix number {matrix}", found.name())));
        }
        if sums.len() != found.packed() {
            let what = format!("has {} outer products, not {}", found.packed(), sums.len());
            return Err(invalid(format!("group {:?} {what}", found.name())));
        }
        if !sums.iter().fold(true, |finite, v| finite & v.is_finite()) {
            return Err(invalid(format!("group {:?}: an outer product is not finite", found.name())));
        }
        let first = (matrix * found.packed()) as u64;
        self.write(found.name(), half.suffix(), first, sums.iter().copied())?;
        self.missing.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes Fisher matrix number `number`; `sums` is summed over `tokens` gradients and is a packed upper triangle or a
    /// diagonal.
    ///
    /// # Errors
    /// Fails when there is no such matrix, `sums` has another size, a value is not finite, or the system cannot write.
    pub fn write_fisher(&self, number: usize, tokens: u64, sums: &[f64]) -> Result<()> {
        let fisher = self.fishers.get(number);
        let fisher = fisher.ok_or_else(|| invalid(format!("there is no Fisher matrix number {number}")))?;
        if sums.len() != fisher.values() {
            let what = format!("has {} values, not {}", fisher.values(), sums.len());
            return Err(invalid(format!("the Fisher matrix of {:?} {what}", fisher.tensor)));
        }
        if !sums.iter().fold(true, |finite, v| finite & v.is_finite()) {
            return Err(invalid(format!("the Fisher matrix of {:?}: a sum is not finite", fisher.tensor)));
        }
        self.write(&fisher.tensor, fisher.suffix(), 0, sums.iter().copied())?;
        self.write(&fisher.tensor, fisher::TOKENS, 0, [tokens as f64].into_iter())?;
        self.missing.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// Fails when a part was not written or was written twice, and as [`PartialFile::finish`] does.
    pub fn finish(self) -> Result<()> {
        let missing = self.missing.load(Ordering::Relaxed);
        if missing != 0 {
            return Err(invalid(format!("{missing} parts of statistics were never written, or too often")));
        }
        self.file.finish()
    }

    fn group(&self, group: usize) -> Result<&Group> {
        self.groups.get(group).ok_or_else(|| invalid(format!("there is no group number {group}")))
    }

    /// Writes values of the tensor called `name` + `suffix`, from its value number `first` on.
    fn write<T: Number>(
        &self,
        name: &str,
        suffix: &str,
        first: u64,
        values: impl Iterator<Item = T>,
    ) -> Result<()> {
        let full = format!("{name}{suffix}");
        let place = self.places.get(&full);
        let start = *place.ok_or_else(|| invalid(format!("there is no tensor {full:?}")))?;
        let mut offset = start + first * T::BYTES;
        let mut values = values.peekable();
        let mut bytes = Vec::with_capacity(PIECE * T::BYTES as usize);
        while values.peek().is_some() {
            bytes.clear();
            values.by_ref().take(PIECE).for_each(|v| v.append_to(&mut bytes));
            self.file.write_at(offset, &bytes)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Returns all tensors of `groups`, the small ones first.
fn specs(groups: &[Group]) -> Vec<TensorSpec> {
    let spec = |name: &str, suffix: &str, shape: Vec<u64>, type_id: u32| {
        let bytes = shape.iter().product::<u64>() * if type_id == F32 { 4 } else { 8 };
        TensorSpec { name: format!("{name}{suffix}"), shape, type_id, bytes }
    };
    let mut specs = Vec::new();
    for group in groups {
        let (name, n, matrices) = (group.name(), group.columns as u64, group.matrices as u64);
        for tensor in &group.tensors {
            specs.push(spec(tensor, imatrix::SUMS, of_each(n, matrices), F32));
            specs.push(spec(tensor, imatrix::COUNTS, of_each(1, matrices), F32));
        }
        specs.push(spec(name, SQUARES, vec![n * matrices, 2], F64));
        specs.push(spec(name, TOKENS, of_each(2, matrices), F64));
    }
    for group in groups {
        let shape = of_each(group.packed() as u64, group.matrices as u64);
        specs.extend(Half::ALL.map(|half| spec(group.name(), half.suffix(), shape.clone(), F64)));
    }
    specs
}

/// Returns the shape of a tensor with `values` values for each of `matrices` matrices.
fn of_each(values: u64, matrices: u64) -> Vec<u64> {
    if matrices == 1 { vec![values] } else { vec![values, matrices] }
}

fn metadata(description: &Description) -> Result<Metadata> {
    let Description { datasets, chunks, cut, blocks, groups, fishers } = description;
    if groups.is_empty() || groups.iter().any(|g| g.tensors.is_empty() || g.matrices == 0) {
        return Err(invalid("there are no tensors to collect statistics of".into()));
    }
    if let Some(name) = groups.iter().flat_map(|g| &g.tensors).find(|name| name.contains(' ')) {
        return Err(invalid(format!("the tensor name {name:?} holds a space")));
    }
    let mut ranges = Vec::new();
    for (index, of_text) in blocks.by_text().values().enumerate() {
        ranges.extend(of_text.iter().flat_map(|r| [index as u64, r.first, r.end]));
    }
    let strings = |all: Vec<String>| Value::Array(Array::String(all));
    let mut metadata = imatrix::metadata(datasets, *chunks, cut.context);
    metadata.set(VERSION_KEY, Value::U32(VERSION));
    metadata.set(BLOCK_TOKENS, Value::U32(cut.block_tokens));
    metadata.set(HELD_OUT_EVERY, Value::U32(cut.held_out_every));
    metadata.set(GROUPS, strings(groups.iter().map(|g| g.tensors.join(" ")).collect()));
    metadata.set(TEXTS, strings(blocks.by_text().keys().cloned().collect()));
    metadata.set(BLOCKS, Value::Array(Array::U64(ranges)));
    if let Some(fishers) = fishers {
        fishers.describe(&mut metadata);
    }
    Ok(metadata)
}

fn invalid(what: String) -> FormatError {
    FormatError::Invalid { what, hint: "compute the statistics again" }
}
