//! Reading of statistics files. Everything but the large sums is checked when a file is opened; the sums are checked when
//! they are read.

mod fisher;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::fisher::FisherPlace;
use self::sums::Impossible;
use super::{
    BLOCK_TOKENS, BLOCKS, BlockRange, Blocks, Cut, Description, F64, Fishers, GROUPS, Group, HELD_OUT_EVERY,
    Half, SQUARES, TEXTS, TOKENS, VERSION, VERSION_KEY, float_types, packed_row,
};
use crate::cursor::Number;
use crate::error::{DAMAGED, FormatError, Result};
use crate::gguf::header::{Header, MAGIC};
use crate::gguf::tensors::{TensorInfo, resolve};
use crate::gguf::{Array, Metadata, Value};
use crate::imatrix::Imatrix;
use crate::source::Source;

const AGAIN: &str = "compute the statistics again";

/// An open statistics file; sums are read from it group by group.
#[derive(Debug)]
pub struct HessianFile {
    file: Source,
    description: Description,
    importance: Imatrix,
    places: Vec<Places>,
    fishers: Vec<FisherPlace>,
}

/// The places of one group's sums.
#[derive(Debug)]
struct Places {
    squares: TensorInfo,
    /// Number of tokens in each half, `[matrices]`.
    tokens: Vec<[u64; 2]>,
    outer: [TensorInfo; 2],
}

impl HessianFile {
    /// Returns whether the file at `path` declares itself a statistics file.
    ///
    /// # Errors
    /// Fails when the file cannot be read, or is a GGUF that breaks the format's rules.
    pub fn is_at(path: &Path) -> Result<bool> {
        let file = Source::open(path)?;
        if !file.starts_with(&MAGIC)? {
            return Ok(false);
        }
        Ok(Header::read(&file)?.metadata.get(VERSION_KEY).is_some())
    }

    /// Opens the statistics file at `path`.
    ///
    /// # Errors
    /// Fails when the file cannot be read, breaks a rule of GGUF, is no statistics file or has a later version, or when its
    /// groups, shapes, counts or ranges contradict each other.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Source::open(path)?;
        let mut header = Header::read(&file)?;
        let keys = Keys { path, metadata: std::mem::take(&mut header.metadata) };
        keys.check_version()?;
        let importance = Imatrix::open(path)?;
        let cut = keys.cut(&importance)?;
        let groups = keys.groups(&importance)?;
        let (tensors, _) = resolve(path, file.bytes(), header, float_types, 0)?;
        let tensors: BTreeMap<&str, &TensorInfo> = tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let finder = Finder { file: &file, tensors };
        let places = groups.iter().map(|group| finder.places(group, &importance));
        let places = places.collect::<Result<_>>()?;
        let fishers = Fishers::described(&keys.metadata).map_err(|what| keys.malformed(what))?;
        let fisher_places = finder.fishers(fishers.as_ref())?;
        let description = Description {
            datasets: importance.datasets.clone(),
            chunks: importance.chunk_count.unwrap_or_default(),
            cut,
            blocks: keys.blocks()?,
            groups,
            fishers,
        };
        Ok(Self { file, description, importance, places, fishers: fisher_places })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns everything that the file states besides its sums.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the importance matrix that the file contains.
    pub fn importance(&self) -> &Imatrix {
        &self.importance
    }

    /// Returns the number of the group that `tensor` belongs to.
    pub fn group_of(&self, tensor: &str) -> Option<usize> {
        self.description.groups.iter().position(|g| g.tensors.iter().any(|name| name == tensor))
    }

    /// Returns the number of tokens in half `half` of matrix number `matrix` of group number `group`; 0 if there is no such
    /// matrix.
    pub fn tokens(&self, (group, matrix): (usize, usize), half: Half) -> u64 {
        let tokens = self.places.get(group).and_then(|places| places.tokens.get(matrix));
        tokens.map_or(0, |tokens| tokens[half as usize])
    }

    /// Returns the exact sums of squares of group number `group`, `[matrices][columns]`, as f64 and the errors of rounding
    /// to f64.
    ///
    /// # Errors
    /// Fails when there is no such group, or a value cannot be a sum of squares.
    pub fn squares(&self, group: usize) -> Result<[Vec<f64>; 2]> {
        let (found, places) = self.group(group)?;
        let mut all: Vec<f64> = Number::all(&places.squares.extent(&self.file)?.read()?);
        let sums = found.columns * found.matrices;
        let fault = |v: &f64, i: usize| !v.is_finite() || (i < sums && *v < 0.0);
        if let Some(i) = (0..all.len()).find(|&i| fault(&all[i], i)) {
            let what = format!("exact sum {i} is {}, which squares of activations cannot give", all[i]);
            return Err(self.fault(found, &places.squares, i, &what));
        }
        let low = all.split_off(sums.min(all.len()));
        Ok([all, low])
    }

    /// Adds half `half` of the outer products of matrix number `matrix` of group number `group` to `sums`, a packed upper
    /// triangle of `[columns (columns + 1) / 2]`.
    ///
    /// # Errors
    /// Fails when there is no such group, `sums` has another size, a value is not finite, or a value on the diagonal is
    /// negative.
    pub fn add_outer(&self, (group, matrix): (usize, usize), half: Half, sums: &mut [f64]) -> Result<()> {
        let (found, places) = self.group(group)?;
        let place = &places.outer[half as usize];
        if matrix >= found.matrices {
            let what = format!("group {:?} has no matrix number {matrix}", found.name());
            return Err(FormatError::Invalid { what, hint: AGAIN });
        }
        if sums.len() != found.packed() {
            let what =
                format!("group {:?} has {} outer products, not {}", found.name(), found.packed(), sums.len());
            return Err(FormatError::Invalid { what, hint: AGAIN });
        }
        let first = matrix * found.packed();
        let bytes = |values: usize| values as u64 * f64::BYTES;
        let own = place.extent(&self.file)?.part(bytes(first)..bytes(first + found.packed()))?;
        let squares = (0..found.columns).map(|row| packed_row(found.columns, row).start);
        match sums::add(own, sums, squares)? {
            None => Ok(()),
            Some(Impossible { at, value, square }) => {
                let what = match square {
                    Some(row) => {
                        format!("the square of column {row} is {value}, which activations cannot give")
                    }
                    None => format!("outer product {at} is {value}"),
                };
                Err(self.fault(found, place, first + at, &what))
            }
        }
    }

    fn group(&self, group: usize) -> Result<(&Group, &Places)> {
        let found = self.description.groups.get(group).zip(self.places.get(group));
        found.ok_or_else(|| FormatError::Invalid {
            what: format!("there is no group number {group}"),
            hint: AGAIN,
        })
    }

    fn fault(&self, group: &Group, tensor: &TensorInfo, at: usize, what: &str) -> FormatError {
        let offset = tensor.offset + at as u64 * f64::BYTES;
        FormatError::malformed(self.path(), offset, format!("group {:?}: {what}", group.name()), AGAIN)
    }
}

/// The metadata of a statistics file, with the checks of its keys.
struct Keys<'a> {
    path: &'a Path,
    metadata: Metadata,
}

impl Keys<'_> {
    fn malformed(&self, what: impl Into<String>) -> FormatError {
        FormatError::malformed(self.path, None, what, DAMAGED)
    }

    fn check_version(&self) -> Result<()> {
        match self.metadata.get(VERSION_KEY) {
            Some(Value::U32(VERSION)) => Ok(()),
            Some(Value::U32(version)) => {
                let what = format!("is a statistics file of version {version}; version {VERSION} is known");
                Err(FormatError::malformed(
                    self.path,
                    None,
                    what,
                    "update kquant, or compute the statistics again",
                ))
            }
            _ => {
                let what =
                    format!("holds no outer products of activations: the key {VERSION_KEY} (u32) is missing");
                Err(FormatError::malformed(self.path, None, what, "make it with kquant calibrate --hessian"))
            }
        }
    }

    fn number(&self, key: &str) -> Result<u32> {
        match self.metadata.get(key) {
            Some(Value::U32(v)) => Ok(*v),
            _ => Err(self.malformed(format!("the key {key} (u32) is missing"))),
        }
    }

    fn strings(&self, key: &str) -> Result<&[String]> {
        match self.metadata.get(key) {
            Some(Value::Array(Array::String(v))) => Ok(v),
            // Some writers cannot state the element type of an empty array.
            Some(Value::Array(v)) if v.is_empty() => Ok(&[]),
            _ => Err(self.malformed(format!("the key {key} (array of strings) is missing"))),
        }
    }

    fn cut(&self, importance: &Imatrix) -> Result<Cut> {
        let context = importance.chunk_size.unwrap_or_default();
        let (block_tokens, held_out_every) = (self.number(BLOCK_TOKENS)?, self.number(HELD_OUT_EVERY)?);
        if context == 0 || block_tokens == 0 || !block_tokens.is_multiple_of(context) {
            let what = format!("blocks of {block_tokens} tokens are no whole chunks of {context}");
            return Err(self.malformed(what));
        }
        if held_out_every < 2 {
            return Err(
                self.malformed(format!("{HELD_OUT_EVERY} is {held_out_every}; nothing would be left"))
            );
        }
        Ok(Cut { context, block_tokens, held_out_every })
    }

    /// Reads the groups, which must contain every tensor of the importance matrix exactly once.
    fn groups(&self, importance: &Imatrix) -> Result<Vec<Group>> {
        let mut seen = BTreeSet::new();
        let mut groups = Vec::new();
        for names in self.strings(GROUPS)? {
            let tensors: Vec<String> = names.split(' ').map(str::to_owned).collect();
            let mut shape = None;
            for name in &tensors {
                let entry = importance.entries.get(name);
                let entry = entry.ok_or_else(|| self.malformed(format!("no entry for tensor {name:?}")))?;
                let own = (entry.columns, entry.matrices);
                if *shape.get_or_insert(own) != own {
                    return Err(
                        self.malformed(format!("the tensors of group {names:?} differ in their columns"))
                    );
                }
                if !seen.insert(name.clone()) {
                    return Err(self.malformed(format!("tensor {name:?} is in two groups")));
                }
            }
            let (columns, matrices) = shape.unwrap_or_default();
            groups.push(Group { tensors, columns, matrices });
        }
        match importance.entries.keys().find(|name| !seen.contains(*name)) {
            Some(name) => Err(self.malformed(format!("tensor {name:?} is in no group"))),
            None => Ok(groups),
        }
    }

    /// Reads the ranges of blocks.
    fn blocks(&self) -> Result<Blocks> {
        let texts = self.strings(TEXTS)?;
        if let Some(odd) = texts.iter().find(|t| t.len() != 64 || !t.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(self.malformed(format!("{odd:?} is no SHA-256 of a text")));
        }
        let ranges = match self.metadata.get(BLOCKS) {
            Some(Value::Array(Array::U64(v))) if v.len().is_multiple_of(3) => v,
            _ => {
                return Err(
                    self.malformed(format!("the key {BLOCKS} (array of u64, three a range) is missing"))
                );
            }
        };
        let mut blocks = Blocks::default();
        for range in ranges.chunks_exact(3) {
            let text = usize::try_from(range[0]).ok().and_then(|i| texts.get(i));
            let (Some(text), true) = (text, range[1] < range[2]) else {
                return Err(
                    self.malformed(format!("{BLOCKS} has the range {range:?} of {} texts", texts.len()))
                );
            };
            let added = blocks.add(&Blocks::of(text, BlockRange { first: range[1], end: range[2] }));
            added.map_err(|overlap| self.malformed(format!("{BLOCKS}: {overlap}")))?;
        }
        Ok(blocks)
    }
}

/// Looks up the tensors that hold a group's sums.
struct Finder<'a> {
    file: &'a Source,
    tensors: BTreeMap<&'a str, &'a TensorInfo>,
}

impl Finder<'_> {
    /// Finds the sums of `group`, whose token counts must agree with those of `importance`.
    fn places(&self, group: &Group, importance: &Imatrix) -> Result<Places> {
        let (n, matrices) = (group.columns as u64, group.matrices as u64);
        let triangle = n.checked_add(1).and_then(|next| n.checked_mul(next)).map(|twice| twice / 2);
        let triangles = triangle.and_then(|values| values.checked_mul(matrices));
        let fault = |what: String| FormatError::malformed(self.file.path(), None, what, DAMAGED);
        let triangles =
            triangles.ok_or_else(|| fault(format!("group {:?} has {n} columns", group.name())))?;
        let counts = self.find(group.name(), TOKENS, matrices.saturating_mul(2))?;
        let counts: Vec<f64> = Number::all(&counts.extent(self.file)?.read()?);
        let whole = |n: &f64| (0.0..=2f64.powi(53)).contains(n) && n.fract() == 0.0;
        let pairs = counts.as_chunks::<2>().0;
        let expected = importance.entries.get(group.name()).map_or(&[][..], |e| &e.counts);
        let equal = expected.len() == pairs.len()
            && pairs.iter().zip(expected).all(|([a, b], expected)| (a + b) as f32 == *expected);
        if !counts.iter().all(whole) || !equal {
            let what = format!("{counts:?} tokens of outer products and {expected:?} of squares");
            return Err(fault(format!("group {:?}: {what}", group.name())));
        }
        let outer = |half: Half| self.find(group.name(), half.suffix(), triangles);
        Ok(Places {
            squares: self.find(group.name(), SQUARES, n.saturating_mul(matrices).saturating_mul(2))?,
            tokens: pairs.iter().map(|&pair| pair.map(|n| n as u64)).collect(),
            outer: [outer(Half::Train)?, outer(Half::HeldOut)?],
        })
    }

    /// Finds the tensor of the name `tensor` + `suffix`, which must hold `values` F64 values.
    fn find(&self, tensor: &str, suffix: &str, values: u64) -> Result<TensorInfo> {
        let name = format!("{tensor}{suffix}");
        let fault = |what: String| FormatError::malformed(self.file.path(), None, what, DAMAGED);
        let tensor = self.tensors.get(&*name);
        let tensor = tensor.ok_or_else(|| fault(format!("the tensor {name:?} is missing")))?;
        if tensor.type_id != F64 || values.checked_mul(f64::BYTES) != Some(tensor.bytes) {
            let what = format!("the tensor {name:?} has {} bytes of type {}", tensor.bytes, tensor.type_id);
            return Err(fault(format!("{what}, expected are {values} values of F64")));
        }
        Ok((*tensor).clone())
    }
}
