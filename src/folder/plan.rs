//! The new checkpoint: its tensors, and the converted tensors that each is put together from.

use std::collections::HashMap;

use kquant_formats::json;
use kquant_formats::safetensors::NewTensor;
use kquant_formats::whole;
use serde_json::{Map, Value as Json};

use super::FolderError;
use super::config::Change;
use super::outline::{Outline, dtype, outline};
use super::place::{Place, places};
use super::rebuild::{Part, unshifted};
use super::tokens::Kept;
use super::{ids, layers};
use crate::arch::{self, Architecture, Config};
use crate::checkpoint::{Opened, Origin, TensorInfo};
use crate::convert::Converted;
use crate::tensor::{Keep, MappedTensor, RowOrder, Source};

/// GGUF name of the output projection.
const OUTPUT: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// A Hugging Face folder that is to be written: everything but the weights.
#[derive(Debug)]
pub struct NewFolder {
    /// Tensors of the checkpoint, in the source's order.
    pub(super) tensors: Vec<NewTensor>,
    /// What each of them is put together from.
    pub(super) parts: Vec<Vec<Part>>,
    /// Contents of `config.json`.
    pub(super) config: Map<String, Json>,
    /// The tokens that are kept.
    pub(super) kept: Kept,
}

impl NewFolder {
    /// Finds out what the folder of `pruned`, made of the source `opened` which was converted to `base`, holds; weights are
    /// stored as `kind` (F32, F16, BF16) or, without it, in the types of the source. Reads no tensor data.
    ///
    /// With `base` for `pruned`, it says whether the source can be written at all.
    ///
    /// # Errors
    /// Fails when the source is a GGUF or quantized, or the new model cannot be said in its family's terms.
    pub fn new(
        opened: &Opened,
        base: &Converted,
        pruned: &Converted,
        kind: Option<&str>,
    ) -> Result<Self, FolderError> {
        let Origin::HuggingFace { folder } = &opened.origin else { return Err(FolderError::Gguf) };
        if let Some(family) = base.recurrent() {
            return Err(FolderError::Recurrent(family.to_owned()));
        }
        let path = folder.join("config.json");
        let text = whole::read(&path, whole::CONFIGURATION)?;
        let source: Map<String, Json> =
            json::parse(&text).map_err(|fault| FolderError::Json { path: path.clone(), fault })?;
        let kept = Kept::find(&base.metadata, &pruned.metadata)?;
        let layers = layers::kept(base, pruned)?;
        let change = Change {
            base,
            pruned,
            vocab: [base, pruned].map(rows_of_embedding),
            layers: &layers,
            own_head: has_own_head(base),
        };
        let mut config = change.apply(&source)?;
        ids::renumber(&mut config, &kept);
        if let Some(kind) = kind {
            ids::set_type(&mut config, kind);
        }
        let typed = Config::parse(path.display().to_string(), &Json::Object(config.clone()).to_string())?;
        let family = arch::find(&typed)?;
        let tensors = outline(opened, base, pruned, &layers, (family, &typed), kind)?;
        let parts = parts((opened, &layers), &tensors, pruned, (family, &typed))?;
        let mut folder = Self { tensors, parts, config, kept };
        folder.add_other_modalities(opened, kind)?;
        Ok(folder)
    }

    /// Adds the tensors beside the text model, which no GGUF has, as they are.
    fn add_other_modalities(&mut self, opened: &Opened, kind: Option<&str>) -> Result<(), FolderError> {
        for (index, info) in opened.checkpoint.tensors().iter().enumerate() {
            if arch::is_stored_text(&info.name) {
                continue;
            }
            let (dtype, shape) = (dtype(opened, info, kind)?, info.shape.clone());
            self.tensors.push(NewTensor { name: info.name.clone(), dtype, shape });
            self.parts.push(vec![as_it_is(index, info)]);
        }
        Ok(())
    }

    /// Returns the bytes of all weights.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().filter_map(NewTensor::bytes).sum()
    }
}

fn rows_of_embedding(model: &Converted) -> u64 {
    model.tensors.iter().find(|t| t.name == EMBEDDING).map_or(0, MappedTensor::rows)
}

/// Returns true if the output projection is made of another checkpoint tensor than the embedding.
fn has_own_head(base: &Converted) -> bool {
    let stored = |name| base.tensors.iter().find(|t| t.name == name).and_then(MappedTensor::first_stored);
    stored(OUTPUT).is_some_and(|head| stored(EMBEDDING) != Some(head))
}

/// Returns what each of `tensors` is put together from.
fn parts(
    (opened, layers): (&Opened, &[u32]),
    tensors: &[NewTensor],
    pruned: &Converted,
    (family, config): (&dyn Architecture, &Config),
) -> Result<Vec<Vec<Part>>, FolderError> {
    check_keys(pruned, family, config)?;
    let mapped = family.map(config, &Outline::of(tensors))?.tensors;
    let by_name: HashMap<&str, &MappedTensor> = pruned.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let wrong = |name: &str, expected: Option<&MappedTensor>, actual: Option<&MappedTensor>| {
        let shape = |t: Option<&MappedTensor>| t.map_or_else(Vec::new, |t| t.shape.clone());
        FolderError::Shape { tensor: name.to_owned(), expected: shape(expected), actual: shape(actual) }
    };
    let mut parts: Vec<Vec<Part>> = vec![Vec::new(); tensors.len()];
    let mut given = vec![0; tensors.len()];
    for tensor in &mapped {
        let own = by_name.get(tensor.name.as_str()).copied();
        let Some(own) = own.filter(|own| own.shape == tensor.shape) else {
            return Err(wrong(&tensor.name, Some(tensor), own));
        };
        for (index, place) in places(tensor).into_iter().flatten() {
            let part = part(own, place);
            let weights: u64 = tensors[index].shape.iter().product();
            // A second tensor of the same weights: an output projection that is the embedding.
            if given[index] < weights {
                given[index] += part.place.given(own, weights);
                parts[index].push(part);
            }
        }
    }
    let names: HashMap<&str, &MappedTensor> = mapped.iter().map(|t| (t.name.as_str(), t)).collect();
    if let Some(other) = pruned.tensors.iter().find(|t| !names.contains_key(t.name.as_str())) {
        return Err(wrong(&other.name, None, Some(other)));
    }
    for (number, tensor) in tensors.iter().enumerate().filter(|(_, t)| family.is_stored_key(&t.name)) {
        if let Some(index) = opened.checkpoint.find(&before(&tensor.name, layers)) {
            parts[number].push(as_it_is(index, &opened.checkpoint.tensors()[index]));
            given[number] = tensor.shape.iter().product();
        }
    }
    for (tensor, given) in tensors.iter().zip(given) {
        let weights = tensor.shape.iter().product();
        if given != weights {
            return Err(FolderError::Hole { tensor: tensor.name.clone(), weights, given });
        }
    }
    Ok(parts)
}

/// Returns the name that tensor `name` of the new checkpoint has in the source, whose numbers of the new layers are `layers`.
fn before(name: &str, layers: &[u32]) -> String {
    let is_in = |layer: u32| arch::stored_in_layer(name, layer) == name;
    let was = (0..).zip(layers).find(|&(new, _)| is_in(new)).map(|(_, &was)| was);
    was.map_or_else(|| name.to_owned(), |was| arch::stored_in_layer(name, was))
}

/// Returns checkpoint tensor `index` of the source as the whole of a new one.
fn as_it_is(index: usize, info: &TensorInfo) -> Part {
    // A tensor without dimensions holds one number.
    let shape = if info.shape.is_empty() { vec![1] } else { info.shape.iter().rev().copied().collect() };
    let source = Source::Tensor { index, rows: RowOrder::Same };
    let tensor = MappedTensor { name: info.name.clone(), shape, source, keep: Keep::Source };
    Part { tensor, place: Place::Whole { first: 0, less: 0.0 } }
}

/// Returns `tensor` at `place`, without the number that the conversion adds where that can be left out.
fn part(tensor: &MappedTensor, place: Place) -> Part {
    match (place, unshifted(tensor)) {
        (Place::Whole { first, .. }, Some(tensor)) => {
            Part { tensor, place: Place::Whole { first, less: 0.0 } }
        }
        _ => Part { tensor: tensor.clone(), place },
    }
}

/// Checks that the configuration leads to the model's own keys.
fn check_keys(pruned: &Converted, family: &dyn Architecture, config: &Config) -> Result<(), FolderError> {
    for (key, value) in family.keys(config)? {
        match pruned.metadata.get(&key) {
            Some(own) if *own == value || is_of_shapes(&key) => {}
            own => {
                let wanted = own.map_or_else(|| "absent".to_owned(), |own| format!("{own:?}"));
                return Err(FolderError::Key { key, wanted, found: format!("{value:?}") });
            }
        }
    }
    Ok(())
}

/// Returns true for a key whose value the shapes of the tensors say as well, as they are compared. Phi's converter writes a
/// width that the model need not have.
pub(super) fn is_of_shapes(key: &str) -> bool {
    key.ends_with(".feed_forward_length")
}
