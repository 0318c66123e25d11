//! The files of a journal, which are GGUFs: tensors as they are stored, and numbers as JSON.

use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::{Array, Gguf, Metadata, TensorSpec, TypeLayout, Value, layout};
use kquant_formats::partial::PartialFile;
use kquant_kernels::block;
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::encode::feedback::Hessian;
use crate::layerwise::report::CalibrationReport;
use crate::layerwise::streams::{Side, Streams};
use crate::statistics::Fishers;
use crate::tensor::Stash;

const VERSION_KEY: &str = "kquant.journal.version";
const RUN_KEY: &str = "kquant.journal.run.sha256";
const NUMBERS: &str = "kquant.journal.numbers";
const NAMES: &str = "kquant.journal.tensors";
const TOKENS: &str = "kquant.journal.tokens";
const INPUT_TOKENS: &str = "kquant.journal.output_input.tokens";
/// What the Fisher matrices call the Hessian of the output projection's input.
const OUTPUT_INPUT: &str = "output.input";
/// ggml's id of the type of 32-bit floats.
const F32: u32 = 0;
const DAMAGED: &str = "remove the journal with `kquant clean` and begin anew";
const SIDES: [(Side, &str); 2] = [(Side::Original, "original"), (Side::Quantized, "quantized")];

/// How far a run has come.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Numbers {
    /// Layers or groups that are done.
    pub reached: usize,
    /// Units of work that are done.
    pub done: u64,
    /// Files of encoded tensors.
    pub files: usize,
    pub report: CalibrationReport,
}

/// A state that was read.
pub(super) struct State {
    file: OpenFile,
    pub numbers: Numbers,
}

/// A file of the journal that belongs to the run.
struct OpenFile {
    path: PathBuf,
    gguf: Gguf,
}

impl OpenFile {
    fn open(path: &Path, run: &str) -> Result<Self, FormatError> {
        let gguf = Gguf::open(path, types)?;
        let file = Self { path: path.to_owned(), gguf };
        let version = file.gguf.metadata().get(VERSION_KEY).and_then(Value::as_u64);
        let of = file.gguf.metadata().get(RUN_KEY).and_then(Value::as_str);
        match (version, of) == (Some(VERSION.into()), Some(run)) {
            true => Ok(file),
            false => Err(file.fault("is of another run")),
        }
    }

    fn fault(&self, what: &str) -> FormatError {
        FormatError::Invalid { what: format!("{}: {what}", self.path.display()), hint: DAMAGED }
    }

    fn numbers(&self) -> Result<Numbers, FormatError> {
        let found = self.gguf.metadata().get(NUMBERS).and_then(Value::as_str);
        let found = found.and_then(|text| serde_json::from_str(text).ok());
        found.ok_or_else(|| self.fault(&format!("has no key {NUMBERS}")))
    }

    /// Returns the values of the F32 tensor `name`.
    fn values(&self, name: &str) -> Result<Vec<f32>, FormatError> {
        let found = self.gguf.tensors().iter().find(|tensor| tensor.name == name && tensor.type_id == F32);
        let tensor = found.ok_or_else(|| self.fault(&format!("has no tensor {name:?}")))?;
        Ok(floats(&self.gguf.data(tensor)?))
    }
}

/// Writes a file of the tensors `specs`, whose bytes `write` puts at the offsets that it is given.
fn write_gguf(
    path: &Path,
    run: &str,
    mut keys: Metadata,
    specs: &[TensorSpec],
    write: impl FnOnce(&PartialFile, &[u64]) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    keys.set("general.type", "journal".into());
    keys.set(VERSION_KEY, Value::U32(VERSION));
    keys.set(RUN_KEY, run.into());
    let layout = layout(&keys, specs)?;
    let file = PartialFile::create(path, layout.total, true)?;
    file.write_at(0, &layout.header)?;
    write(&file, &layout.offsets)?;
    file.finish()
}

/// Writes the tensors `names` of `stash`.
pub(super) fn write_tensors(
    path: &Path,
    run: &str,
    stash: &Stash,
    names: &[&str],
) -> Result<(), FormatError> {
    let spec = |name: &&str| {
        let (block, columns, rows) = stash.shape(name)?;
        let bytes = (columns / block.elements * block.bytes) as u64 * rows;
        let shape = vec![columns as u64, rows];
        Some(TensorSpec { name: (*name).to_owned(), shape, type_id: block.id, bytes })
    };
    let specs: Vec<TensorSpec> = names.iter().filter_map(spec).collect();
    write_gguf(path, run, Metadata::new(), &specs, |file, offsets| {
        for (spec, &offset) in specs.iter().zip(offsets) {
            if let Some(bytes) = stash.rows(&spec.name, 0..spec.shape[1]) {
                file.write_at(offset, &bytes?)?;
            }
        }
        Ok(())
    })
}

/// Puts the tensors of the file at `path` into `stash`, and returns their names.
pub(super) fn read_tensors(path: &Path, run: &str, stash: &mut Stash) -> Result<Vec<String>, FormatError> {
    let file = OpenFile::open(path, run)?;
    let mut names = Vec::new();
    for tensor in file.gguf.tensors() {
        let block =
            block::by_id(tensor.type_id).ok_or_else(|| file.fault("has a tensor of an unknown type"))?;
        let columns = tensor.shape.first().map_or(0, |&columns| columns as usize);
        stash.insert(&tensor.name, block, columns, file.gguf.data(tensor)?)?;
        names.push(tensor.name.clone());
    }
    Ok(names)
}

/// Writes Fisher matrices.
pub(super) fn write_gradients(path: &Path, run: &str, fishers: &Fishers) -> Result<(), FormatError> {
    let all: Vec<(&str, u64, usize)> = fishers.shapes().collect();
    let mut keys = Metadata::new();
    keys.set(NAMES, Value::Array(Array::String(all.iter().map(|(name, ..)| (*name).to_owned()).collect())));
    keys.set(TOKENS, Value::Array(Array::U64(all.iter().map(|&(_, tokens, _)| tokens).collect())));
    let mut specs: Vec<TensorSpec> = all.iter().map(|&(name, _, values)| spec(name, values, 1)).collect();
    let input = fishers.output_input();
    if let Some(Hessian { columns, tokens, .. }) = input {
        keys.set(INPUT_TOKENS, Value::U64(*tokens));
        specs.push(spec(OUTPUT_INPUT, *columns, *columns));
    }
    write_gguf(path, run, keys, &specs, |file, offsets| {
        for (&(name, ..), &offset) in all.iter().zip(offsets) {
            file.write_at(offset, &bytes(&fishers.means(name)?))?;
        }
        match (input, offsets.last()) {
            (Some(hessian), Some(&offset)) => file.write_at(offset, &bytes(&hessian.mean)),
            _ => Ok(()),
        }
    })
}

/// Reads Fisher matrices, of which `room` bytes are held in memory.
pub(super) fn read_gradients(path: &Path, run: &str, room: u64) -> Result<Fishers, FormatError> {
    let file = OpenFile::open(path, run)?;
    let keys = file.gguf.metadata();
    let (Some(Value::Array(Array::String(names))), Some(Value::Array(Array::U64(tokens)))) =
        (keys.get(NAMES), keys.get(TOKENS))
    else {
        return Err(file.fault("does not say of what its matrices are"));
    };
    let mut fishers = Fishers::new(room);
    for (name, &tokens) in names.iter().zip(tokens) {
        fishers.put(name, tokens, file.values(name)?)?;
    }
    if let Some(tokens) = keys.get(INPUT_TOKENS).and_then(Value::as_u64) {
        let mean = file.values(OUTPUT_INPUT)?;
        let columns = mean.len().isqrt();
        fishers.set_output_input(Hessian { columns, mean, tokens });
    }
    Ok(fishers)
}

impl State {
    /// Reads how many layers or groups are done by the state at `path`, of whatever run.
    pub(super) fn read_reached(path: &Path) -> Result<usize, FormatError> {
        let file = OpenFile { path: path.to_owned(), gguf: Gguf::open(path, types)? };
        Ok(file.numbers()?.reached)
    }

    /// Opens the state of the run `run` at `path`.
    pub(super) fn open(path: &Path, run: &str) -> Result<Self, FormatError> {
        let file = OpenFile::open(path, run)?;
        Ok(Self { numbers: file.numbers()?, file })
    }

    /// Writes `numbers` and the states of `streams`, whose tiles have the number of tokens that comes with them.
    pub(super) fn write(
        path: &Path,
        run: &str,
        numbers: &Numbers,
        streams: Option<(&mut Streams, Tokens)>,
    ) -> Result<(), FormatError> {
        let mut keys = Metadata::new();
        keys.set(NUMBERS, Value::String(serde_json::json!(numbers).to_string()));
        let Some((streams, tokens)) = streams else { return write_gguf(path, run, keys, &[], |_, _| Ok(())) };
        let mut specs = Vec::new();
        for (side, name) in SIDES {
            for (buffer, values) in streams.lengths(0, side)?.into_iter().enumerate() {
                specs.push(spec(&format!("{name}.{buffer}"), values / tokens.of(0), tokens.all));
            }
        }
        write_gguf(path, run, keys, &specs, |file, offsets| {
            for tile in 0..streams.len() {
                let mut places = specs.iter().zip(offsets);
                for (side, _) in SIDES {
                    let state = streams.take(tile, side)?;
                    for (values, (spec, offset)) in state.iter().zip(&mut places) {
                        let first = spec.shape[0] * (tile * tokens.tile) as u64;
                        file.write_at(offset + 4 * first, &bytes(values))?;
                    }
                    streams.put(tile, side, state)?;
                }
            }
            Ok(())
        })
    }

    /// Fills `streams`, whose tiles may be others than those that were written.
    pub(super) fn read_streams(&self, streams: &mut Streams, tokens: Tokens) -> Result<(), FormatError> {
        let gguf = &self.file.gguf;
        for tile in 0..streams.len() {
            for (side, name) in SIDES {
                let mut state = Vec::new();
                while let Some(tensor) =
                    gguf.tensors().iter().find(|t| t.name == format!("{name}.{}", state.len()))
                {
                    if tensor.shape.get(1).copied().unwrap_or(1) != tokens.all as u64 {
                        return Err(self.file.fault("has the states of another text"));
                    }
                    let row = 4 * tensor.shape[0];
                    let first = (tile * tokens.tile) as u64 * row;
                    let range = first..first + tokens.of(tile) as u64 * row;
                    state.push(floats(&gguf.extent(tensor)?.part(range)?.read()?));
                }
                streams.put(tile, side, state)?;
            }
        }
        Ok(())
    }
}

/// How the tokens of a text are cut into tiles.
#[derive(Debug, Clone, Copy)]
pub(in crate::layerwise) struct Tokens {
    pub all: usize,
    /// Tokens of all tiles but the last.
    pub tile: usize,
}

impl Tokens {
    /// Returns the number of tokens of tile `tile`.
    pub(in crate::layerwise) fn of(self, tile: usize) -> usize {
        (self.all - tile * self.tile).min(self.tile)
    }
}

fn types(id: u32) -> Option<TypeLayout> {
    block::by_id(id).map(|block| TypeLayout {
        name: block.name,
        elements: block.elements as u64,
        bytes: block.bytes as u64,
    })
}

/// An F32 tensor of `rows` rows.
fn spec(name: &str, columns: usize, rows: usize) -> TensorSpec {
    let shape = vec![columns as u64, rows as u64];
    TensorSpec { name: name.to_owned(), shape, type_id: F32, bytes: 4 * (columns * rows) as u64 }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}
