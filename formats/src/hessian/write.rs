//! Statistics files written, group by group in any order.

use std::collections::BTreeMap;
use std::path::Path;

use super::{
    BLOCK_TOKENS, BLOCKS, Description, F32, F64, GROUPS, Group, HELD_OUT_EVERY, Half, SQUARES, TEXTS, TOKENS,
    VERSION, VERSION_KEY,
};
use crate::cursor::Number;
use crate::error::{FormatError, Result};
use crate::gguf::{Array, Metadata, TensorSpec, Value, layout};
use crate::imatrix::{self, Entry};
use crate::partial::PartialFile;

/// Values turned into bytes at a time.
const PIECE: usize = 1 << 16;

/// What is written of a group but its outer products.
#[derive(Debug, Clone, Copy)]
pub struct GroupSums<'a> {
    /// `[columns]` sums of squares and their count, as an importance matrix has them.
    pub entry: &'a Entry,
    /// `[columns]`: sums of squares, rounded to f64.
    pub high: &'a [f64],
    /// `[columns]`: what rounding left.
    pub low: &'a [f64],
    /// Tokens of the halves.
    pub tokens: [u64; 2],
}

/// A statistics file under construction. It gets its name only when it is finished.
#[derive(Debug)]
pub struct HessianWriter {
    file: PartialFile,
    groups: Vec<Group>,
    places: BTreeMap<String, u64>,
    /// Pieces of the groups still to come.
    missing: usize,
}

impl HessianWriter {
    /// Starts `path`; an existing file is replaced only if `force` is set.
    ///
    /// # Errors
    /// When the description is of no groups or of nonsense, or the file cannot be made.
    pub fn create(path: &Path, description: &Description, force: bool) -> Result<Self> {
        let specs = specs(&description.groups);
        let layout = layout(&metadata(description)?, &specs)?;
        let file = PartialFile::create(path, layout.total, force)?;
        file.write_at(0, &layout.header)?;
        let places = specs.into_iter().map(|spec| spec.name).zip(layout.offsets).collect();
        let missing = 3 * description.groups.len();
        Ok(Self { file, groups: description.groups.clone(), places, missing })
    }

    /// Writes the sums of group number `group`.
    ///
    /// # Errors
    /// When their number is not the group's, a value is none that squares can give, or the system cannot write.
    pub fn write_sums(&mut self, group: usize, sums: &GroupSums) -> Result<()> {
        let found = self.group(group)?;
        let (name, n) = (found.name(), found.columns);
        let GroupSums { entry, high, low, tokens } = sums;
        let lengths = [entry.columns, entry.sums.len(), high.len(), low.len()];
        if lengths != [n; 4] || entry.matrices != 1 || entry.counts.len() != 1 {
            return Err(invalid(format!("group {name:?} has {n} columns, but sums of {lengths:?}")));
        }
        imatrix::check_entry(name, entry)?;
        if !low.iter().all(|v| v.is_finite()) || !high.iter().all(|v| v.is_finite()) {
            return Err(invalid(format!("group {name:?}: an exact sum is not finite")));
        }
        for tensor in &found.tensors {
            self.write(tensor, imatrix::SUMS, entry.sums.iter().copied())?;
            self.write(tensor, imatrix::COUNTS, entry.counts.iter().copied())?;
        }
        self.write(name, SQUARES, high.iter().chain(low.iter()).copied())?;
        self.write(name, TOKENS, tokens.iter().map(|&n| n as f64))?;
        self.missing = self.missing.saturating_sub(1);
        Ok(())
    }

    /// Writes half `half` of the outer products of group number `group`: `sums`, packed upper triangle.
    ///
    /// # Errors
    /// When their number is not the group's, a value is not finite, or the system cannot write.
    pub fn write_outer(&mut self, group: usize, half: Half, sums: &[f64]) -> Result<()> {
        let found = self.group(group)?;
        if sums.len() != found.packed() {
            let what = format!("has {} outer products, not {}", found.packed(), sums.len());
            return Err(invalid(format!("group {:?} {what}", found.name())));
        }
        if !sums.iter().fold(true, |finite, v| finite & v.is_finite()) {
            return Err(invalid(format!("group {:?}: an outer product is not finite", found.name())));
        }
        self.write(found.name(), half.suffix(), sums.iter().copied())?;
        self.missing = self.missing.saturating_sub(1);
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// When a group was not written, or as [`PartialFile::finish`].
    pub fn finish(self) -> Result<()> {
        if self.missing != 0 {
            return Err(invalid(format!("{} parts of statistics were never written", self.missing)));
        }
        self.file.finish()
    }

    fn group(&self, group: usize) -> Result<&Group> {
        self.groups.get(group).ok_or_else(|| invalid(format!("there is no group number {group}")))
    }

    /// Writes all of tensor `name` + `suffix`.
    fn write<T: Number>(&self, name: &str, suffix: &str, values: impl Iterator<Item = T>) -> Result<()> {
        let full = format!("{name}{suffix}");
        let place = self.places.get(&full);
        let mut offset = *place.ok_or_else(|| invalid(format!("there is no tensor {full:?}")))?;
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

/// All tensors, the small ones first.
fn specs(groups: &[Group]) -> Vec<TensorSpec> {
    let spec = |name: &str, suffix: &str, shape: Vec<u64>, type_id: u32| {
        let bytes = shape.iter().product::<u64>() * if type_id == F32 { 4 } else { 8 };
        TensorSpec { name: format!("{name}{suffix}"), shape, type_id, bytes }
    };
    let mut specs = Vec::new();
    for group in groups {
        let (name, n) = (group.name(), group.columns as u64);
        for tensor in &group.tensors {
            specs.push(spec(tensor, imatrix::SUMS, vec![n], F32));
            specs.push(spec(tensor, imatrix::COUNTS, vec![1], F32));
        }
        specs.push(spec(name, SQUARES, vec![n, 2], F64));
        specs.push(spec(name, TOKENS, vec![2], F64));
    }
    for group in groups {
        for half in Half::ALL {
            specs.push(spec(group.name(), half.suffix(), vec![group.packed() as u64], F64));
        }
    }
    specs
}

fn metadata(description: &Description) -> Result<Metadata> {
    let Description { datasets, chunks, cut, blocks, groups } = description;
    if groups.is_empty() || groups.iter().any(|g| g.tensors.is_empty()) {
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
    Ok(metadata)
}

fn invalid(what: String) -> FormatError {
    FormatError::Invalid { what, hint: "compute the statistics again" }
}
