//! The state of a run in a file, from which a killed run goes on to the same bytes.
//!
//! The file is a GGUF of F32 tensors, called by what they are and the number of the trained tensor they belong to, such as
//! `weight.12`. It says by a hash which run it is of: other models, texts or options are refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kquant_formats::FormatError;
use kquant_formats::gguf::{Gguf, Metadata, TensorSpec, TypeLayout, Value, layout};
use kquant_formats::partial::PartialFile;

use super::DistillError;
use super::report::Measured;

const VERSION: u32 = 1;
const VERSION_KEY: &str = "kquant.distill.version";
const RUN: &str = "kquant.distill.run.sha256";
const NUMBERS: &str = "kquant.distill.numbers";

/// ggml's id of the type of 32-bit floats.
const F32: u32 = 0;

/// Where the state of a run is kept, and how often.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// The file.
    pub path: PathBuf,
    /// Time between two writings.
    pub every: Duration,
    /// True if the run goes on from the file.
    pub resume: bool,
}

/// The numbers of a run's state.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Numbers {
    /// Steps that were made.
    pub step: usize,
    /// Step after which the statistics of the student were made.
    pub renewed: usize,
    /// Seconds that were spent.
    pub seconds: f64,
    /// Size of the largest steps from now on.
    pub rate: f64,
    /// Steps of the optimizer since it forgot its steps.
    pub optimizer_steps: i32,
    /// Sum of the losses since the last measurement, and their number.
    pub losses: (f64, u32),
    /// Step and divergence of the best moment.
    pub best: (usize, f64),
    /// Divergences so far.
    pub course: Vec<Measured>,
}

/// An array of the state: what it is, the number of the trained tensor that it belongs to, its values.
pub(super) type Visit<'a> = dyn FnMut(&str, usize, &[f32]) + 'a;

/// Writes a state to `path`: the `numbers`, and the arrays that `arrays` shows, which it does twice in the same order.
pub(super) fn write(
    path: &Path,
    run: &str,
    numbers: &Numbers,
    arrays: impl Fn(&mut Visit),
) -> Result<(), DistillError> {
    let mut specs = Vec::new();
    arrays(&mut |kind, number, values| {
        let (name, shape) = (format!("{kind}.{number}"), vec![values.len() as u64]);
        specs.push(TensorSpec { name, shape, type_id: F32, bytes: 4 * values.len() as u64 });
    });
    let mut keys = Metadata::new();
    keys.set("general.type", "distillation".into());
    keys.set(VERSION_KEY, Value::U32(VERSION));
    keys.set(RUN, run.into());
    keys.set(NUMBERS, Value::String(serde_json::to_string(numbers).unwrap_or_default()));
    let layout = layout(&keys, &specs)?;
    let file = PartialFile::create(path, layout.total, true)?;
    file.write_at(0, &layout.header)?;
    let (mut offsets, mut result) = (layout.offsets.into_iter(), Ok(()));
    arrays(&mut |_, _, values| {
        let Some(offset) = offsets.next().filter(|_| result.is_ok()) else { return };
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        result = file.write_at(offset, &bytes);
    });
    result?;
    Ok(file.finish()?)
}

/// A state that was read.
pub(super) struct State {
    path: PathBuf,
    gguf: Gguf,
    pub numbers: Numbers,
}

impl State {
    /// Opens the state at `path` of the run `run`.
    pub(super) fn open(path: &Path, run: &str) -> Result<Self, DistillError> {
        let gguf = Gguf::open(path, types)?;
        let keys = gguf.metadata();
        let fault = |what| DistillError::Checkpoint { path: path.to_owned(), what };
        if keys.get(VERSION_KEY).and_then(Value::as_u64) != Some(VERSION.into()) {
            return Err(fault("is no state of a distillation that this version of kquant knows"));
        }
        if keys.get(RUN).and_then(Value::as_str) != Some(run) {
            return Err(fault("is of a run with other models, texts or options"));
        }
        let numbers = keys.get(NUMBERS).and_then(Value::as_str).map(serde_json::from_str);
        let Some(Ok(numbers)) = numbers else { return Err(fault("has no numbers of a run")) };
        Ok(Self { path: path.to_owned(), gguf, numbers })
    }

    /// Returns the array `kind` of the trained tensor number `number`, if the state has it.
    pub(super) fn array(&self, kind: &str, number: usize) -> Result<Option<Vec<f32>>, FormatError> {
        let name = format!("{kind}.{number}");
        let found = self.gguf.tensors().iter().find(|tensor| tensor.name == name);
        let Some(tensor) = found else { return Ok(None) };
        let bytes = self.gguf.data(tensor)?;
        Ok(Some(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()))
    }

    /// Returns the array `kind` of the trained tensor number `number`, which has `length` values.
    pub(super) fn required(
        &self,
        kind: &str,
        number: usize,
        length: usize,
    ) -> Result<Vec<f32>, DistillError> {
        let found = self.array(kind, number)?.filter(|values| values.len() == length);
        found.ok_or_else(|| DistillError::Checkpoint { path: self.path.clone(), what: "lacks weights" })
    }
}

fn types(id: u32) -> Option<TypeLayout> {
    (id == F32).then_some(TypeLayout { name: "F32", elements: 1, bytes: 4 })
}
