//! Storage for activations or gradients of all tokens, in parts: in memory if they fit and otherwise in a temporary file,
//! with the same numbers either way.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use kquant_formats::FormatError;
use kquant_formats::scratch::Scratch;
use rayon::prelude::*;

/// Number of values that one task converts.
const STEP: usize = 1 << 14;

/// The number format of stored states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// States are stored as they are.
    F32,
    /// States are stored rounded to bf16.
    Bf16,
}

impl Form {
    fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Storage for a number of states.
pub(crate) struct Kept {
    form: Form,
    states: Vec<Stored>,
    spill: Option<Scratch>,
}

#[derive(Clone)]
enum Stored {
    Nothing,
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    /// The state is in the temporary file, from byte `place` on; there is room for `room` values, of which `length` are in
    /// use.
    File {
        place: u64,
        room: usize,
        length: usize,
    },
}

impl Kept {
    /// Makes room for `count` states with `values` values altogether, within `memory` bytes or in a file.
    pub(crate) fn new(count: usize, values: u64, form: Form, memory: u64) -> Result<Self, FormatError> {
        let fits = values.checked_mul(form.bytes()).is_some_and(|bytes| bytes <= memory);
        let spill = if fits { None } else { Some(Scratch::new()?) };
        Ok(Self { form, states: vec![Stored::Nothing; count], spill })
    }

    /// Returns the bytes of memory that `values` values take.
    pub(crate) fn memory(&self, values: u64) -> u64 {
        if self.spill.is_some() { 0 } else { values * self.form.bytes() }
    }

    /// Stores `values` as state number `at`. In the file, they overwrite the previous state if they fit its place.
    pub(crate) fn put(&mut self, at: usize, values: Vec<f32>) -> Result<(), FormatError> {
        let state = match (self.form, &self.spill) {
            (_, Some(scratch)) => {
                let length = values.len();
                let (place, room) = match self.states[at] {
                    Stored::File { place, room, .. } if room >= length => (place, room),
                    _ => (scratch.reserve(self.form.bytes() * length as u64), length),
                };
                scratch.write_at(place, &encoded(self.form, &values))?;
                Stored::File { place, room, length }
            }
            (Form::F32, None) => Stored::F32(values),
            (Form::Bf16, None) => Stored::Bf16(rounded(&values)),
        };
        self.states[at] = state;
        Ok(())
    }

    /// Removes state number `at` and returns it; an absent state is empty.
    pub(crate) fn take(&mut self, at: usize) -> Result<Vec<f32>, FormatError> {
        if let (Stored::File { place, length, .. }, Some(scratch)) = (&mut self.states[at], &self.spill) {
            // The place in the file is kept for the next state.
            let mut bytes = vec![0; std::mem::take(length) * self.form.bytes() as usize];
            scratch.read_at(*place, &mut bytes)?;
            return Ok(decoded(self.form, &bytes));
        }
        Ok(match std::mem::replace(&mut self.states[at], Stored::Nothing) {
            Stored::F32(values) => values,
            Stored::Bf16(values) => widened(&values),
            Stored::Nothing | Stored::File { .. } => Vec::new(),
        })
    }
}

fn rounded(values: &[f32]) -> Vec<bf16> {
    let mut out = vec![bf16::ZERO; values.len()];
    let parts = out.par_chunks_mut(STEP).zip(values.par_chunks(STEP));
    parts.for_each(|(out, values)| out.convert_from_f32_slice(values));
    out
}

fn widened(values: &[bf16]) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    let parts = out.par_chunks_mut(STEP).zip(values.par_chunks(STEP));
    parts.for_each(|(out, values)| values.convert_to_f32_slice(out));
    out
}

fn encoded(form: Form, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * form.bytes() as usize];
    match form {
        Form::F32 => {
            let fields = bytes.as_chunks_mut().0.iter_mut();
            fields.zip(values).for_each(|(field, value)| *field = value.to_le_bytes());
        }
        Form::Bf16 => {
            let fields = bytes.as_chunks_mut().0.iter_mut();
            fields.zip(rounded(values)).for_each(|(field, value)| *field = value.to_le_bytes());
        }
    }
    bytes
}

fn decoded(form: Form, bytes: &[u8]) -> Vec<f32> {
    match form {
        Form::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Form::Bf16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_file_give_the_same_states() {
        let state = |seed: usize| -> Vec<f32> { (0..100).map(|i| (i * seed) as f32 * 0.1).collect() };
        for form in [Form::F32, Form::Bf16] {
            let of = |memory: u64| {
                let mut kept = Kept::new(3, 300, form, memory).unwrap();
                assert_eq!(kept.spill.is_some(), memory == 0);
                for at in 0..3 {
                    kept.put(at, state(at)).unwrap();
                }
                assert_eq!(kept.take(1).unwrap().len(), 100);
                kept.put(1, state(9)).unwrap();
                [2, 0, 1].map(|at| kept.take(at).unwrap())
            };
            let (memory, file) = (of(1 << 20), of(0));
            assert_eq!(memory, file);
            for (values, seed) in memory.iter().zip([2, 0, 9]) {
                let exact = state(seed);
                let bound = if form == Form::F32 { 0.0 } else { 2f32.powi(-8) };
                assert!(values.iter().zip(&exact).all(|(v, x)| (v - x).abs() <= bound * x.abs()));
            }
        }
    }
}
