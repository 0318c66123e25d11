//! The inference loop, layer by layer: a layer's weights are read and decoded once and applied to every chunk of text.
//!
//! It serves evaluation and calibration, which need all layers applied to all tokens, not a token at a time. Peak memory
//! is one packed layer, the residual stream of the chunks at hand and the buffers of one tile of them.
//!
//! ```text
//! tokens -> embed -> [ layer 0: tile 0, tile 1, ... ] -> [ layer 1: ... ] -> ... -> hidden states -> head -> logits
//! ```
//!
//! Arithmetic is f32, but for the products of linear maps, where [`Products`] leaves a choice. Work is cut into blocks
//! whose bounds depend on the text alone, so that no bit depends on the number of threads or the memory.

mod blocks;
mod embed;
pub mod families;
mod forward;
pub mod graph;
mod groups;
mod head;
mod hyper;
mod products;
mod session;
pub(crate) mod stages;
mod tile;
mod weights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::arch::{self, ArchError};
use crate::calibrate::ObserveError;
use crate::checkpoint::{self, Io, OpenError, Opened, Origin};
use crate::plan::{self, Input, InputError, MappedTensor};
use crate::vocab::{self, Tokenizer, TokenizerError};
use families::Family;
use graph::{Op, Slot};

pub use blocks::{block_tokens, chunks_per_block};
pub use forward::{Hidden, Pass};
pub use groups::LinearGroup;
pub use head::{Head, Logits};
pub use hyper::Hyper;
pub use products::Products;
pub use session::{Sampler, Session};

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its configuration, tensors or tokenizer.
    #[error("{path}")]
    Input {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        source: InputError,
    },
    /// Its tokenizer.
    #[error("{path}")]
    Tokenizer {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        source: TokenizerError,
    },
    /// Two models with different tokens.
    #[error("{path} and {other} have different vocabularies, so that their predictions cannot be compared")]
    Vocabulary {
        /// One.
        path: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// A hyper-parameter.
    #[error("key `{key}` {what}")]
    Key {
        /// GGUF key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A family that only conversion knows.
    #[error("architecture `{name}` cannot be run yet; known are {known}")]
    Architecture {
        /// `general.architecture`.
        name: String,
        /// The families that can.
        known: String,
    },
    /// A tensor that is not there, or not of the size that the keys ask for.
    #[error("tensor `{tensor}` {what}")]
    Tensor {
        /// GGUF name.
        tensor: String,
        /// What is wrong with it.
        what: String,
    },
    /// Rows that cannot be read.
    #[error("{what}")]
    Read {
        /// Which, and why.
        what: String,
    },
    /// A weight that is no number.
    #[error("tensor `{tensor}`: weight at row {row}, column {column} is {value}; the file is damaged")]
    Weight {
        /// GGUF name.
        tensor: String,
        /// Row.
        row: u64,
        /// Column.
        column: u64,
        /// The weight.
        value: f32,
    },
    /// An activation that is no number.
    #[error(
        "tensor `{tensor}`: its output for token {token} of the text is {value}; weights of this size overflow f32"
    )]
    Activation {
        /// GGUF name.
        tensor: String,
        /// Number of the token in the chunks given.
        token: usize,
        /// The activation.
        value: f32,
    },
    /// A token that the embedding lacks.
    #[error(
        "token {token} is not in the embedding of {vocab} rows; the text was tokenized for another model"
    )]
    Token {
        /// Its id.
        token: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A context longer than the model's.
    #[error(
        "a context of {asked} tokens is more than the model's {longest}; give --context {longest} or less"
    )]
    Context {
        /// Asked for.
        asked: usize,
        /// The model's.
        longest: usize,
    },
    /// Buffers that the budget cannot hold.
    #[error("one layer and one chunk need {needed} bytes of memory; give --memory at least that much")]
    Memory {
        /// Bytes.
        needed: u64,
    },
    /// An observer.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Stopped from outside.
    #[error("interrupted")]
    Interrupted,
}

/// A model whose weights stay in its file until they are needed.
pub struct Model {
    /// Its hyper-parameters.
    pub hyper: Hyper,
    /// Where it was opened.
    pub path: PathBuf,
    family: &'static Family,
    opened: Opened,
    input: Input,
    index: HashMap<String, usize>,
    vocab: usize,
    pre: Option<String>,
    rounds: bool,
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
        let input = plan::describe(&opened, pre)
            .map_err(|source| ModelError::Input { path: path.to_owned(), source })?;
        let hyper = Hyper::from_metadata(&input.metadata)?;
        let family = families::find(&hyper.architecture).ok_or_else(|| {
            let known: Vec<_> = families::FAMILIES.iter().map(|f| f.name).collect();
            ModelError::Architecture { name: hyper.architecture.clone(), known: known.join(", ") }
        })?;
        let index = input.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let mut model = Self {
            hyper,
            path: path.to_owned(),
            family,
            opened,
            input,
            index,
            vocab: 0,
            pre: pre.map(str::to_owned),
            rounds: false,
            products: Products::default(),
        };
        model.vocab = model.tensor(EMBEDDING)?.rows() as usize;
        model.check_shapes()?;
        Ok(model)
    }

    /// Rounds what enters each linear layer as stock llama.cpp does, to 8 bits for quantized weights: predicts what a
    /// phone computes, where exact arithmetic judges the weights alone.
    pub fn round_activations(&mut self) {
        self.rounds = true;
    }

    /// Computes the products of linear maps in `products`; f32 otherwise.
    pub fn compute_in(&mut self, products: Products) {
        self.products = products;
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

    fn input_error(&self, source: InputError) -> ModelError {
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

    pub(crate) fn find(&self, name: &str) -> Option<&MappedTensor> {
        self.index.get(name).map(|&i| &self.input.tensors[i])
    }

    fn tensor(&self, name: &str) -> Result<&MappedTensor, ModelError> {
        self.find(name)
            .ok_or_else(|| ModelError::Tensor { tensor: name.to_owned(), what: "is missing".into() })
    }

    /// Width of a slot, where the hyper-parameters decide it.
    fn width(&self, slot: Slot) -> Option<usize> {
        let Hyper { heads, kv_heads, head, hidden, .. } = self.hyper;
        match slot {
            Slot::Stream | Slot::Normed | Slot::Delta => Some(hidden),
            Slot::Fused => Some((heads + 2 * kv_heads) * head),
            Slot::Query | Slot::Attended => Some(heads * head),
            Slot::Key | Slot::Value => Some(kv_heads * head),
            Slot::Gate | Slot::Up => None,
        }
    }

    fn check_shapes(&self) -> Result<(), ModelError> {
        let hidden = self.hyper.hidden as u64;
        self.check(EMBEDDING, &[hidden, self.vocab as u64])?;
        self.check(&format!("{FINAL_NORM}.weight"), &[hidden])?;
        if self.find(OUTPUT).is_some() {
            self.check(OUTPUT, &[hidden, self.vocab as u64])?;
        }
        if self.family.learned_positions {
            self.check(POSITIONS, &[hidden, self.hyper.context as u64])?;
        }
        (0..self.hyper.layers).try_for_each(|layer| self.check_layer(layer))
    }

    /// Every operation's tensors: inputs as wide as the slot that is read, outputs as wide as the slot that is written.
    fn check_layer(&self, layer: usize) -> Result<(), ModelError> {
        // Widths that the weights decide, in the order of the slots.
        let mut widths = [None; graph::SLOTS];
        for op in self.family.layer {
            match *op {
                Op::Norm { name, .. } => {
                    self.check(&format!("blk.{layer}.{name}.weight"), &[self.hyper.hidden as u64])?;
                }
                Op::Linear { input, output, name } => {
                    let full = format!("blk.{layer}.{name}.weight");
                    let tensor = self.tensor(&full)?;
                    let inputs =
                        self.width(input).or(widths[input as usize]).unwrap_or(tensor.columns() as usize);
                    let outputs = self.width(output).unwrap_or(tensor.rows() as usize);
                    self.check(&full, &[inputs as u64, outputs as u64])?;
                    widths[output as usize] = Some(outputs);
                    let bias = format!("blk.{layer}.{name}.bias");
                    if self.find(&bias).is_some() {
                        self.check(&bias, &[outputs as u64])?;
                    }
                }
                Op::SiluGate if widths[Slot::Gate as usize] != widths[Slot::Up as usize] => {
                    let tensor = format!("blk.{layer}.ffn_gate.weight");
                    return Err(ModelError::Tensor { tensor, what: "has not as many rows as ffn_up".into() });
                }
                _ => {}
            }
        }
        Ok(())
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

pub(crate) const EMBEDDING: &str = "token_embd.weight";
const POSITIONS: &str = "position_embd.weight";
/// The output projection; also what observers know it by where it is tied to the embedding.
pub const OUTPUT: &str = "output.weight";
const FINAL_NORM: &str = "output_norm";
const ROPE_FACTORS: &str = "rope_freqs.weight";
