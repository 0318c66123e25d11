//! The forward and backward pass, layer by layer: a layer's weights are read and decoded once and applied to every chunk of
//! text.
//!
//! Evaluation and calibration need all layers applied to all tokens, not one token at a time. Peak memory is one packed
//! layer, the residual stream of the current chunks, and the buffers of one tile of them.
//!
//! ```text
//! tokens -> embed -> [ layer 0: tile 0, tile 1, ... ] -> [ layer 1: ... ] -> ... -> hidden states -> head -> logits
//! ```
//!
//! | file | content |
//! |---|---|
//! | `embed`, `layer_inputs`, `head` | the way from tokens to the stream and to inputs of layers, and from the stream to logits |
//! | `ops/` | each operation's shapes, weights, forward step and gradient |
//! | `check`, `weights` | requirements on the tensors of operations, and reading of their weights |
//! | `matrix`, `products`, `routed` | weights packed for products, and the assignment of rows to one of several matrices |
//! | `steps`, `tile`, `rope` | operations bound to their weights, and the buffers and rotations that they use |
//! | `forward`, `session`, `stages` | the loops: whole texts layer by layer, one text with a cache, layers in stages between groups |
//! | `sample/` | texts that the model writes itself, many at once |
//! | `router` | the routing of tokens without some experts |
//! | `draws` | seeded random choices, of labels and of tokens |
//! | `backward/` | the backward pass |
//! | `observer`, `gradient_observer`, `groups` | the interfaces to statistics, and the groups of linear maps that share their input |
//! | `trainable` | the tensors that a backward pass gives gradients of |
//! | `vocabulary` | the tokens that two models have in common |
//! | `kept` | states of all tokens in memory or in a temporary file |
//!
//! Arithmetic is f32, except for the products of linear maps, which [`Products`] selects. Work is cut into blocks whose
//! bounds depend on the text alone, so that no bit depends on the number of threads or on the memory.

pub mod backward;
mod check;
pub(crate) mod draws;
mod embed;
mod error;
mod forward;
mod gradient_observer;
mod groups;
mod head;
pub(crate) mod kept;
mod layer_inputs;
mod matrix;
mod observer;
mod ops;
mod products;
mod rope;
mod routed;
pub(crate) mod router;
pub mod sample;
mod session;
pub(crate) mod stages;
mod steps;
mod tile;
mod trainable;
mod vocabulary;
mod weights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::arch;
use crate::checkpoint::{self, Opened, Origin};
use crate::convert::{Converted, convert};
use crate::graph::{Graph, Hyper, KeyError, Op, SLOTS, Slot, Windows, architecture, weight_name};
use crate::tensor::{MappedTensor, Replaced};
use crate::vocab::Tokenizer;

pub use error::ModelError;
pub use forward::{Hidden, Pass};
pub use gradient_observer::{GradientObserver, WeightObserver};
pub use groups::LinearGroup;
pub use head::{Head, Logits};
pub use observer::{ObserveError, Observer};
pub use products::Products;
pub use sample::Sampler;
pub use session::Session;
pub use trainable::ParameterKind;

/// A model whose weights stay in its file until they are needed.
pub struct Model {
    /// Hyper-parameters of the model.
    pub hyper: Hyper,
    /// Path that the model was opened from.
    pub path: PathBuf,
    graph: &'static Graph,
    /// Operations of each layer.
    layers: Vec<Vec<Op>>,
    /// Work per token in the linear maps of each layer.
    work: Vec<ops::LinearWork>,
    /// Largest width of each slot; 0 where a slot is not used.
    widths: [usize; SLOTS],
    opened: Arc<Opened>,
    input: Converted,
    /// Weights that are read in the place of those of the input, if there are any.
    overlay: Option<Arc<dyn Replaced + Send>>,
    index: HashMap<String, usize>,
    /// Number of rows of the embedding, and of logits.
    vocab: usize,
    /// True if inputs of linear maps are rounded as llama.cpp does.
    rounds: bool,
    products: Products,
}

impl Model {
    /// Opens any model that predicts tokens, and checks that every tensor of the forward pass exists in the right shape.
    ///
    /// # Errors
    /// Fails when the file cannot be opened or converted, its architecture cannot be run or is an encoder, or a tensor is missing
    /// or of a wrong shape.
    pub fn open(path: &Path, pre: Option<&str>) -> Result<Self, ModelError> {
        let model = Self::open_to_embed(path, pre)?;
        model.check_predicts()?;
        Ok(model)
    }

    /// Checks that the model predicts tokens, which encoders do not.
    ///
    /// # Errors
    /// Fails for an encoder.
    pub fn check_predicts(&self) -> Result<(), ModelError> {
        match self.is_encoder() {
            true => Err(ModelError::Encoder { name: self.hyper.architecture.clone() }),
            false => Ok(()),
        }
    }

    /// Opens a model for the states that it gives tokens, or for its tokenizer: as [`open`](Self::open) does, and encoders as well.
    ///
    /// # Errors
    /// Fails as [`open`](Self::open) does, except for encoders.
    pub fn open_to_embed(path: &Path, pre: Option<&str>) -> Result<Self, ModelError> {
        let opened = checkpoint::open(path)?;
        let input = convert(&opened, pre, None)
            .map_err(|source| ModelError::Input { path: path.to_owned(), source })?;
        Self::new(path, Arc::new(opened), input)
    }

    /// Returns this model with `input` in the place of its converted model, whose tensors are read from the same file.
    ///
    /// # Errors
    /// Fails when a tensor of the forward pass is missing in `input` or of a wrong shape.
    pub fn changed(&self, input: Converted) -> Result<Self, ModelError> {
        let mut changed = Self::new(&self.path, self.opened.clone(), input)?;
        (changed.rounds, changed.products) = (self.rounds, self.products);
        Ok(changed)
    }

    fn new(path: &Path, opened: Arc<Opened>, input: Converted) -> Result<Self, ModelError> {
        let name = architecture(&input.metadata)?;
        let graph = arch::graph(name).ok_or_else(|| ModelError::Architecture {
            name: name.to_owned(),
            known: arch::graph_names().join(", "),
        })?;
        let hyper = input.hyper(graph)?;
        if hyper.layers > input.tensors.len() {
            let key = format!("{name}.block_count");
            return Err(KeyError { key, what: "is more than the model has tensors".into() }.into());
        }
        let index = input.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let mut model = Self {
            layers: Vec::new(),
            work: Vec::new(),
            hyper,
            path: path.to_owned(),
            graph,
            widths: [0; SLOTS],
            opened,
            input,
            overlay: None,
            index,
            vocab: 0,
            rounds: false,
            products: Products::default(),
        };
        model.vocab = model.tensor(EMBEDDING)?.rows() as usize;
        model.layers = (0..model.hyper.layers).map(|layer| model.graph_ops(layer)).collect();
        model.widths = model.check_shapes()?;
        model.work = model.linear_work()?;
        Ok(model)
    }

    /// Reads weights from `overlay` where it has them, and the others from the file.
    pub(crate) fn set_overlay(&mut self, overlay: Arc<dyn Replaced + Send>) {
        self.overlay = Some(overlay);
    }

    /// Rounds the inputs of linear maps as stock llama.cpp does, to 8 bits for quantized weights. The results then predict
    /// those of llama.cpp; exact arithmetic measures the effect of the weights alone.
    pub fn round_activations(&mut self) {
        self.rounds = true;
    }

    /// Selects the precision in which products of linear maps are computed; f32 is the default.
    pub fn compute_in(&mut self, products: Products) {
        self.products = products;
    }

    /// Returns the differences between this model and a GGUF of it in contexts of `context` tokens, as sentences without a
    /// full stop.
    pub fn differences(&self, context: usize) -> Vec<String> {
        let known = self.input.limits.iter().cloned().chain(self.ignored_window());
        known.filter(|limit| context > limit.tokens as usize).map(|limit| limit.what).collect()
    }

    /// Returns the window that the keys of a GGUF state and that llama.cpp does not apply. It is Phi 3's, the only window
    /// that all layers have.
    fn ignored_window(&self) -> Option<arch::Limit> {
        let is_gguf = matches!(self.opened.origin, Origin::Gguf { .. });
        let window = self.hyper.window.filter(|_| is_gguf && self.graph.windows == Windows::Always)?;
        Some(arch::Limit::window(u32::try_from(window).ok()?, "all layers", None))
    }

    /// Returns the precision in which products of linear maps are computed.
    pub fn products(&self) -> Products {
        self.products
    }

    /// Returns the metadata as GGUF keys, including the vocabulary.
    pub fn metadata(&self) -> &kquant_formats::gguf::Metadata {
        &self.input.metadata
    }

    /// Returns the model's tokenizer: a folder's is that of the GGUF that it would become.
    ///
    /// # Errors
    /// Fails when the tokenizer is missing, malformed or of a kind that kquant does not have.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let tokenizer = Tokenizer::from_metadata(&self.input.metadata);
        tokenizer.map_err(|source| ModelError::Tokenizer { path: self.path.clone(), source })
    }

    /// The converted model: its tensors and metadata.
    pub fn converted(&self) -> &Converted {
        &self.input
    }

    /// Returns the opened model file or folder.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Returns true for an encoder: its tokens see both ways, so that it embeds texts and predicts none.
    pub fn is_encoder(&self) -> bool {
        !self.hyper.causal
    }

    /// Returns the number of rows of the embedding, which is the number of logits.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }

    /// Returns whether the embeddings are the output projection as well.
    pub(crate) fn is_tied(&self) -> bool {
        self.find(OUTPUT).is_none() && !self.is_encoder()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&MappedTensor> {
        self.index.get(name).map(|&i| &self.input.tensors[i])
    }

    fn tensor(&self, name: &str) -> Result<&MappedTensor, ModelError> {
        self.find(name)
            .ok_or_else(|| ModelError::Tensor { tensor: name.to_owned(), what: "is missing".into() })
    }

    /// Returns the operations of layer `layer` by the graph, with stand-ins for linear maps and without optional norms that the model
    /// lacks. What reads such a norm of the stream reads the other one.
    fn graph_ops(&self, layer: usize) -> Vec<Op> {
        let lacks = |name: &str| {
            self.graph.optional.contains(&name) && self.find(&weight_name(layer, name)).is_none()
        };
        let mut ops = (self.graph.layer)(&self.hyper, layer);
        for op in &mut ops {
            let name = op.map().map(|map| map.name);
            let stands_in =
                |(of, _): &&(&str, Op)| name == Some(*of) && self.find(&weight_name(layer, of)).is_none();
            if let Some((_, stand_in)) = self.graph.stand_ins.iter().find(stands_in) {
                *op = *stand_in;
            }
        }
        let absent = |op: &Op| matches!(op, Op::Norm { name, .. } if lacks(name));
        if ops.iter().any(|op| absent(op) && op.writes() == [Slot::NormedParallel]) {
            ops.iter_mut().for_each(|op| op.redirect(Slot::NormedParallel, Slot::Normed));
        }
        ops.retain(|op| !absent(op));
        ops
    }

    /// Returns the operations of layer `layer`.
    fn ops(&self, layer: usize) -> Result<&[Op], ModelError> {
        let missing = || ModelError::Layer { asked: layer, layers: self.layers.len() };
        self.layers.get(layer).map(Vec::as_slice).ok_or_else(missing)
    }

    /// Checks that the tensor `name` has the shape `shape`, columns first; dimensions of 1 at the end count for nothing.
    pub(crate) fn check(&self, name: &str, shape: &[u64]) -> Result<(), ModelError> {
        let tensor = self.tensor(name)?;
        let essential = |shape: &[u64]| shape.iter().rposition(|&n| n != 1).map_or(0, |last| last + 1);
        if tensor.shape[..essential(&tensor.shape)] == shape[..essential(shape)] {
            return Ok(());
        }
        let what =
            format!("has shape {:?} (columns first), the model's keys ask for {shape:?}", tensor.shape);
        Err(ModelError::Tensor { tensor: name.to_owned(), what })
    }
}

/// Name of the embedding's tensor, under which statistics of the rows looked up in it are stored, too.
pub const EMBEDDING: &str = "token_embd.weight";
const POSITIONS: &str = "position_embd.weight";
/// Name of the tensor with a row for each type of token, of which all tokens of a single text have the first.
const TOKEN_TYPES: &str = "token_types.weight";
/// Name of the norm of what goes into the first layer, without `.weight`.
const EMBEDDING_NORM: &str = "token_embd_norm";
/// Name of the output projection's tensor, which observers use even where the projection is tied to the embedding.
pub const OUTPUT: &str = "output.weight";
const OUTPUT_NAME: &str = "output";
const OUTPUT_BIAS: &str = "output.bias";
