//! The inference loop, layer by layer: a layer's weights are read and decoded once and applied to every chunk of text.
//!
//! It serves evaluation and calibration, which need all layers applied to all tokens, not a token at a time. Peak memory
//! is one packed layer, the residual stream of the chunks at hand and the buffers of one tile of them.
//!
//! ```text
//! tokens -> embed -> [ layer 0: tile 0, tile 1, ... ] -> [ layer 1: ... ] -> ... -> hidden states -> head -> logits
//! ```
//!
//! | file | what |
//! |---|---|
//! | `embed`, `head` | tokens to the stream, the stream to logits |
//! | `ops/` | each operation's shapes, weights, forward step and gradient |
//! | `check`, `weights` | what operations ask of tensors before and while their weights are read |
//! | `matrix`, `products`, `routed` | weights packed for products, and which rows are multiplied by which of several matrices |
//! | `steps`, `tile`, `rope` | operations bound to their weights, the buffers and the rotations that they run over |
//! | `forward`, `session`, `stages` | the loops: whole texts layer by layer, one text with a cache, layers in stages between groups |
//! | `backward/` | the way back |
//! | `observer`, `gradient_observer`, `groups` | the hooks, and which linear maps share their input |
//! | `kept` | states of all tokens in memory or in a temporary file |
//!
//! Arithmetic is f32, but for the products of linear maps, where [`Products`] leaves a choice. Work is cut into blocks
//! whose bounds depend on the text alone, so that no bit depends on the number of threads or the memory.

pub mod backward;
mod check;
mod embed;
mod error;
mod forward;
mod gradient_observer;
mod groups;
mod head;
pub(crate) mod kept;
mod matrix;
mod observer;
mod ops;
mod products;
mod rope;
mod routed;
mod session;
pub(crate) mod stages;
mod steps;
mod tile;
mod weights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::arch::{self, ArchError};
use crate::checkpoint::{self, Io, Opened, Origin};
use crate::convert::{ConvertError, Converted, convert};
use crate::graph::{Graph, Hyper, KeyError, Op, SLOTS, Windows, architecture, weight_name};
use crate::tensor::MappedTensor;
use crate::vocab::{self, Tokenizer};

pub use error::ModelError;
pub use forward::{Hidden, Pass};
pub use gradient_observer::GradientObserver;
pub use groups::LinearGroup;
pub use head::{Head, Logits};
pub use observer::{ObserveError, Observer};
pub use products::Products;
pub use session::{Sampler, Session};

/// A model whose weights stay in its file until they are needed.
pub struct Model {
    /// Its hyper-parameters.
    pub hyper: Hyper,
    /// Where it was opened.
    pub path: PathBuf,
    graph: &'static Graph,
    /// The operations of each layer.
    layers: Vec<Vec<Op>>,
    /// What a token costs in each layer.
    work: Vec<ops::LinearWork>,
    /// The widest that each slot gets; 0 where it is not used.
    widths: [usize; SLOTS],
    opened: Opened,
    input: Converted,
    index: HashMap<String, usize>,
    vocab: usize,
    pre: Option<String>,
    rounds: bool,
    rounds_turns: bool,
    products: Products,
}

impl Model {
    /// Opens anything that `quantize` reads, and checks that every tensor of the forward pass is there in the right shape.
    ///
    /// # Errors
    /// When the file, its architecture or a tensor is not what it must be.
    pub fn open(path: &Path, pre: Option<&str>) -> Result<Self, ModelError> {
        Self::open_by(path, pre, Io::Auto)
    }

    /// [`open`](Self::open), with weights read as `io` says.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_by(path: &Path, pre: Option<&str>, io: Io) -> Result<Self, ModelError> {
        let opened = checkpoint::open_by(path, io)?;
        let input = convert(&opened, pre, None)
            .map_err(|source| ModelError::Input { path: path.to_owned(), source })?;
        let name = architecture(&input.metadata)?;
        let graph = arch::graph(name).ok_or_else(|| ModelError::Architecture {
            name: name.to_owned(),
            known: arch::graph_names().join(", "),
        })?;
        let mut hyper = Hyper::from_metadata(&input.metadata, graph)?;
        // What the keys cannot say.
        if let Some((limit, windows)) = input.limits.iter().find_map(|limit| Some((limit, limit.windows?))) {
            (hyper.window, hyper.windows) = (Some(limit.tokens as usize), windows);
        }
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
            index,
            vocab: 0,
            pre: pre.map(str::to_owned),
            rounds: false,
            rounds_turns: false,
            products: Products::default(),
        };
        model.vocab = model.tensor(EMBEDDING)?.rows() as usize;
        model.layers = (0..model.hyper.layers).map(|layer| model.graph_ops(layer)).collect();
        model.widths = model.check_shapes()?;
        model.work = model.linear_work()?;
        Ok(model)
    }

    /// Rounds what enters each linear layer as stock llama.cpp does, to 8 bits for quantized weights: predicts what a
    /// phone computes, where exact arithmetic judges the weights alone.
    pub fn round_activations(&mut self) {
        self.rounds = true;
    }

    /// Rounds rotary frequencies to bf16, as transformers does with models that are loaded in bf16: predicts what it computes,
    /// which strays from the model's definition the more the later the position.
    pub fn round_turns(&mut self) {
        self.rounds_turns = true;
    }

    /// Computes the products of linear maps in `products`; f32 otherwise.
    pub fn compute_in(&mut self, products: Products) {
        self.products = products;
    }

    /// What a GGUF of the model computes otherwise in contexts of `context` tokens, as sentences without their stop.
    pub fn differences(&self, context: usize) -> Vec<String> {
        let known = self.input.limits.iter().cloned().chain(self.ignored_window());
        known.filter(|limit| context > limit.tokens as usize).map(|limit| limit.what).collect()
    }

    /// The window that the keys of a GGUF have and that llama.cpp does not apply: Phi 3's, the only one in all layers.
    fn ignored_window(&self) -> Option<arch::Limit> {
        let is_gguf = matches!(self.opened.origin, Origin::Gguf { .. });
        let window = self.hyper.window.filter(|_| is_gguf && self.graph.windows == Windows::Always)?;
        Some(arch::Limit::window(u32::try_from(window).ok()?, "all layers", None))
    }

    /// What products of linear maps are computed in.
    pub fn products(&self) -> Products {
        self.products
    }

    /// Metadata as GGUF keys, the vocabulary included.
    pub fn metadata(&self) -> &kquant_formats::gguf::Metadata {
        &self.input.metadata
    }

    /// Its tokenizer: a folder's own files, or the keys of a GGUF.
    ///
    /// # Errors
    /// When it is missing, malformed or of a kind that kquant does not have.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let tokenizer = match &self.opened.origin {
            Origin::Gguf { .. } => Tokenizer::from_metadata(&self.input.metadata),
            Origin::HuggingFace { folder } => {
                let config = arch::Config::open(&folder.join("config.json")).map_err(ArchError::from);
                let config = config.map_err(|e| self.input_error(e.into()))?.json();
                Tokenizer::from_folder(&vocab::Request {
                    folder,
                    architecture: &self.hyper.architecture,
                    vocab_size: Some(self.vocab as u64),
                    config: &config,
                    pre: self.pre.as_deref(),
                })
            }
        };
        tokenizer.map_err(|source| ModelError::Tokenizer { path: self.path.clone(), source })
    }

    /// Checks that the tokens of both models are the same, so that their logits can be compared.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_same_vocabulary(&self, other: &Self) -> Result<(), ModelError> {
        let tokens = |m: &'_ Self| m.input.metadata.get("tokenizer.ggml.tokens").cloned();
        if self.vocab == other.vocab && tokens(self) == tokens(other) {
            return Ok(());
        }
        Err(ModelError::Vocabulary { path: self.path.clone(), other: other.path.clone() })
    }

    /// The converted model: its tensors and metadata.
    pub(crate) fn converted(&self) -> &Converted {
        &self.input
    }

    fn input_error(&self, source: ConvertError) -> ModelError {
        ModelError::Input { path: self.path.clone(), source }
    }

    /// What the model was opened from.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Rows of the embedding: the number of logits.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }

    /// Whether the embeddings are the output projection as well.
    pub(crate) fn is_tied(&self) -> bool {
        self.find(OUTPUT).is_none()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&MappedTensor> {
        self.index.get(name).map(|&i| &self.input.tensors[i])
    }

    fn tensor(&self, name: &str) -> Result<&MappedTensor, ModelError> {
        self.find(name)
            .ok_or_else(|| ModelError::Tensor { tensor: name.to_owned(), what: "is missing".into() })
    }

    /// The operations of layer `layer` as the graph has them, without norms that it may lack and does.
    fn graph_ops(&self, layer: usize) -> Vec<Op> {
        let lacks = |name: &str| {
            self.graph.optional.contains(&name) && self.find(&weight_name(layer, name)).is_none()
        };
        let mut ops = (self.graph.layer)(&self.hyper, layer);
        ops.retain(|op| !matches!(op, Op::Norm { name, .. } if lacks(name)));
        ops
    }

    /// The operations of layer `layer`.
    fn ops(&self, layer: usize) -> Result<&[Op], ModelError> {
        let missing = || ModelError::Layer { asked: layer, layers: self.layers.len() };
        self.layers.get(layer).map(Vec::as_slice).ok_or_else(missing)
    }

    fn check(&self, name: &str, shape: &[u64]) -> Result<(), ModelError> {
        let tensor = self.tensor(name)?;
        if tensor.shape == shape {
            return Ok(());
        }
        let what =
            format!("has shape {:?} (columns first), the model's keys ask for {shape:?}", tensor.shape);
        Err(ModelError::Tensor { tensor: name.to_owned(), what })
    }
}

/// The table of embeddings; also what statistics of the rows looked up in it are called.
pub const EMBEDDING: &str = "token_embd.weight";
const POSITIONS: &str = "position_embd.weight";
/// The output projection; also what observers know it by where it is tied to the embedding.
pub const OUTPUT: &str = "output.weight";
const OUTPUT_NAME: &str = "output";
const FINAL_NORM: &str = "output_norm";
