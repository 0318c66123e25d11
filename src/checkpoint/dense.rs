//! Dense layers after the pooling of an embedding model, which sentence-transformers keeps in folders of their own.
//!
//! They are linear maps of a whole text's embedding (EmbeddingGemma has two). Their weights are seen as further tensors of the
//! checkpoint, called as in GGUF.

use std::ops::Range;
use std::path::{Path, PathBuf};

use kquant_formats::safetensors::SafeTensors;
use kquant_formats::source::Extent;
use kquant_formats::{json, whole};
use serde_json::Value as Json;

use super::open::OpenError;
use super::safetensors::SafeTensorsCheckpoint;
use super::{Checkpoint, ReadError, TensorInfo};

/// Folders of the layers, and the names of their weights. GGUF has no names for others.
const LAYERS: [(&str, &str); 2] = [("2_Dense", "dense_2.weight"), ("3_Dense", "dense_3.weight")];

/// The name of a layer's weights in its own file.
const WEIGHT: &str = "linear.weight";

/// Returns true if `name` is that of a dense layer's weights.
pub(crate) fn is_dense(name: &str) -> bool {
    LAYERS.iter().any(|(_, known)| *known == name)
}

/// A dense layer: its file and its name.
pub(super) struct Layer {
    pub(super) path: PathBuf,
    name: &'static str,
    file: SafeTensorsCheckpoint,
    /// Number of the weights in the file.
    weight: usize,
}

/// Opens the dense layers that `modules.json` of `folder` lists, if there are any. The second result says why they cannot be converted.
pub(super) fn layers(folder: &Path) -> Result<(Vec<Layer>, Option<String>), OpenError> {
    let Some(modules) = read(&folder.join("modules.json")) else { return Ok((Vec::new(), None)) };
    let kind = |module: &Json, end: &str| module["type"].as_str().is_some_and(|kind| kind.ends_with(end));
    let mut layers = Vec::new();
    for module in modules.as_array().into_iter().flatten().filter(|module| kind(module, ".Dense")) {
        let path = Path::new(module["path"].as_str().unwrap_or_default());
        let Some((_, name)) = LAYERS.iter().find(|(folder, _)| path == Path::new(folder)) else {
            let what =
                format!("modules.json has a dense layer in {path:?}; GGUF has names for 2_Dense and 3_Dense");
            return Ok((Vec::new(), Some(what)));
        };
        let inside = folder.join(path);
        if let Some(what) = unusual(&inside) {
            return Ok((Vec::new(), Some(what)));
        }
        let path = inside.join("model.safetensors");
        let file = SafeTensorsCheckpoint::new(SafeTensors::open(&path)?, None)
            .map_err(|source| OpenError::Tensor { path: path.clone(), source })?;
        match (file.find(WEIGHT), file.tensors()) {
            (Some(weight), [info]) if info.shape.len() == 2 => {
                layers.push(Layer { path, name, file, weight })
            }
            _ => {
                let what = format!("{}: has other tensors than the matrix {WEIGHT}", path.display());
                return Ok((Vec::new(), Some(what)));
            }
        }
    }
    Ok((layers, None))
}

/// Returns what a dense layer in `folder` has that GGUF cannot express. A key that is missing stands for what sentence-transformers takes then:
/// a bias, and the hyperbolic tangent.
fn unusual(folder: &Path) -> Option<String> {
    let path = folder.join("config.json");
    let Some(config) = read(&path) else {
        return Some(format!(
            "{}: cannot be read, so that nothing is known of the dense layer",
            path.display()
        ));
    };
    let function = config["activation_function"].as_str().unwrap_or("Tanh");
    let biased = config["bias"].as_bool() != Some(false);
    (biased || !function.ends_with("Identity")).then(|| {
        format!("{}: a dense layer with a bias or with {function}; GGUF has matrices alone", path.display())
    })
}

/// Returns the content of a file of JSON; none if it cannot be read, which is reported where the pooling is read.
fn read(path: &Path) -> Option<Json> {
    json::parse(&whole::read_if_there(path, whole::CONFIGURATION).ok()??).ok()
}

/// A checkpoint with dense layers, whose files come first, as the converter writes them first.
pub(super) struct WithDense {
    layers: Vec<Layer>,
    model: SafeTensorsCheckpoint,
    tensors: Vec<TensorInfo>,
}

impl WithDense {
    pub(super) fn new(layers: Vec<Layer>, model: SafeTensorsCheckpoint) -> Self {
        let own = layers.iter().enumerate().map(|(shard, layer)| {
            let info = &layer.file.tensors()[layer.weight];
            TensorInfo { name: layer.name.to_owned(), shard, ..info.clone() }
        });
        let rest = model
            .tensors()
            .iter()
            .map(|info| TensorInfo { shard: info.shard + layers.len(), ..info.clone() });
        Self { tensors: own.chain(rest).collect(), layers, model }
    }

    /// Returns the file that holds `tensor`, and the tensor's number in it.
    fn place(&self, tensor: usize) -> (&SafeTensorsCheckpoint, usize) {
        match self.layers.get(tensor) {
            Some(layer) => (&layer.file, layer.weight),
            None => (&self.model, tensor - self.layers.len()),
        }
    }
}

impl Checkpoint for WithDense {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        let layer = self.layers.iter().position(|layer| layer.name == name);
        layer.or_else(|| Some(self.model.find(name)? + self.layers.len()))
    }

    fn extent(&self, tensor: usize) -> Result<Extent<'_>, ReadError> {
        let (file, tensor) = self.place(tensor);
        file.extent(tensor)
    }

    fn decode(&self, tensor: usize, at: (u64, u64), bytes: &[u8], out: &mut [f32]) -> Result<(), ReadError> {
        let (file, tensor) = self.place(tensor);
        file.decode(tensor, at, bytes, out)
    }

    fn gather(&self, tensor: usize, rows: Range<u64>, out: &mut [u8]) -> Result<(), ReadError> {
        let (file, tensor) = self.place(tensor);
        file.gather(tensor, rows, out)
    }

    fn to_blocks(
        &self,
        tensor: usize,
        at: (u64, u64),
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        let (file, tensor) = self.place(tensor);
        file.to_blocks(tensor, at, bytes, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_to_be_a_matrix_alone_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let unusual_with = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            unusual(folder.path()).unwrap_or_default()
        };
        let identity = r#""activation_function": "torch.nn.modules.linear.Identity""#;
        assert_eq!(unusual_with(&format!(r#"{{"bias": false, {identity}}}"#)), "");
        for config in [format!("{{{identity}}}"), format!(r#"{{"bias": true, {identity}}}"#)] {
            assert!(unusual_with(&config).contains("with a bias"), "{config}");
        }
        assert!(unusual_with(r#"{"bias": false}"#).contains("Tanh"));
        assert!(unusual_with("[").contains("cannot be read"));
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        assert!(unusual(folder.path()).is_some());
    }
}
