//! Models that are looked at, and whether two of them are one model at two precisions.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kquant_formats::gguf::{Array, Value};

use super::ReportError;
use super::facts::name_of;
use crate::checkpoint::{self, Opened};
use crate::convert::{Converted, convert};
use crate::tensor::{MappedTensor, TensorName};

/// A model whose tensors can be read under their GGUF names, whether or not it can be run.
pub struct Inspected {
    name: String,
    path: PathBuf,
    opened: Arc<Opened>,
    converted: Converted,
}

impl Inspected {
    /// Opens a Hugging Face folder, a safetensors file or a GGUF; `pre` names the pre-tokenizer where it is not recognised.
    ///
    /// # Errors
    /// Fails when the model cannot be opened or is not understood.
    pub fn open(path: &Path, pre: Option<&str>) -> Result<Self, ReportError> {
        let opened = checkpoint::open(path)?;
        let converted = convert(&opened, pre, None)
            .map_err(|source| ReportError::Convert { path: path.to_owned(), source })?;
        Ok(Self { name: name_of(path), path: path.to_owned(), opened: Arc::new(opened), converted })
    }

    /// Returns the model under another name.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Returns what the model is called on the page.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path that it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its files.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Returns its tensors and keys.
    pub fn converted(&self) -> &Converted {
        &self.converted
    }

    /// Returns the text at a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.converted.metadata.get(key)?.as_str()
    }

    /// Returns the name of the type that a tensor is stored in; tensors that are computed are F32.
    pub(super) fn stored_type(&self, tensor: &MappedTensor) -> &'static str {
        let stored = tensor.first_stored().and_then(|index| self.opened.checkpoint.tensors().get(index));
        stored.map_or("F32", |info| info.dtype)
    }

    /// Returns the bits per weight of a type that some tensor has.
    pub(super) fn bits_of(&self, kind: &str) -> f64 {
        let tensors = self.opened.checkpoint.tensors();
        let stored = tensors.iter().find(|info| info.dtype == kind).map_or((1, 4), |info| info.stored);
        8.0 * stored.1 as f64 / stored.0.max(1) as f64
    }

    fn tokens(&self) -> Option<&[String]> {
        match self.converted.metadata.get("tokenizer.ggml.tokens") {
            Some(Value::Array(Array::String(tokens))) => Some(tokens),
            _ => None,
        }
    }
}

/// Checks that `model` can have been made of `base` by encoding its tensors anew: architecture, tokens and shapes are the same.
///
/// # Errors
/// Fails with [`ReportError::Unrelated`], which names the first difference.
pub fn related(base: &Inspected, model: &Inspected) -> Result<(), ReportError> {
    let difference =
        architectures(base, model).or_else(|| vocabularies(base, model)).or_else(|| shapes(base, model));
    match difference {
        None => Ok(()),
        Some(what) => {
            Err(ReportError::Unrelated { base: base.path.clone(), model: model.path.clone(), what })
        }
    }
}

fn architectures(base: &Inspected, model: &Inspected) -> Option<String> {
    let (a, b) = (base.text("general.architecture")?, model.text("general.architecture")?);
    (a != b).then(|| format!("the first is of the architecture {a:?} and the second of {b:?}"))
}

fn vocabularies(base: &Inspected, model: &Inspected) -> Option<String> {
    let (a, b) = (base.tokens()?, model.tokens()?);
    if let Some(id) = a.iter().zip(b).position(|(a, b)| a != b) {
        return Some(format!("token {id} is {:?} in the first and {:?} in the second", a[id], b[id]));
    }
    (a.len() != b.len()).then(|| format!("the first has {} tokens and the second {}", a.len(), b.len()))
}

/// Says which tensor has another shape, or which matrix of a layer only one of both has.
fn shapes(base: &Inspected, model: &Inspected) -> Option<String> {
    let shape = |t: &MappedTensor| t.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
    let theirs: HashMap<&str, &MappedTensor> =
        model.converted.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    for tensor in &base.converted.tensors {
        if let Some(other) = theirs.get(tensor.name.as_str()).filter(|other| other.shape != tensor.shape) {
            return Some(format!(
                "tensor {:?} is {} in the first and {} in the second",
                tensor.name,
                shape(tensor),
                shape(other)
            ));
        }
    }
    let needed = |name: &&str, of: &Inspected| {
        let found = of.converted.tensors.iter().find(|t| t.name == **name);
        TensorName(name).layer().is_some() && found.is_some_and(|t| t.shape.len() > 1)
    };
    let [first, second] = only_in(base, model);
    let missing = |names: &[&str], of| names.iter().find(|name| needed(name, of)).map(|n| (*n).to_owned());
    let (lacks, name) = match missing(&first, base) {
        Some(name) => ("second", name),
        None => ("first", missing(&second, model)?),
    };
    Some(format!("the {lacks} lacks the tensor {name:?}"))
}

/// Returns the names of the tensors that only one of two models has.
pub fn only_in<'a>(base: &'a Inspected, model: &'a Inspected) -> [Vec<&'a str>; 2] {
    let names = |of: &'a Inspected| -> HashSet<&str> {
        of.converted.tensors.iter().map(|t| t.name.as_str()).collect()
    };
    let (ours, theirs) = (names(base), names(model));
    let lacking = |of: &'a Inspected, other: &HashSet<&str>| {
        let all = of.converted.tensors.iter().map(|t| t.name.as_str());
        all.filter(|name| !other.contains(name)).collect()
    };
    [lacking(base, &theirs), lacking(model, &ours)]
}
