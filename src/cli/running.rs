//! What the commands that run a model share: its text, its threads, Ctrl-C.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use kquant::job::{Cut, TextError, TextFile};
use kquant::model::{Model, ModelError, Products};
use kquant::text::Chunks;
use kquant::threads;

use super::bytes;

/// How much of which text, with which means.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TextArgs {
    /// Tokens per chunk; by default 512, or the model's context if that is shorter.
    #[arg(long, short, value_name = "N")]
    pub context: Option<usize>,
    /// Chunks of the text to use; by default all.
    #[arg(long, value_name = "N")]
    pub chunks: Option<usize>,
    /// Name of the pre-tokenizer, where it is not recognised.
    #[arg(long, value_name = "NAME")]
    pub pre: Option<String>,
    /// Products of linear layers: f32, or bf16 with sums in f32, which is about twice as fast on processors with
    /// AVX512_BF16 and less exact. By default f32, but bf16 where weights are rounded with feedback, channels pruned or students trained.
    #[arg(long, value_name = "TYPE")]
    pub products: Option<ProductsArg>,
}

/// Values of `--products`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ProductsArg {
    F32,
    Bf16,
}

impl From<ProductsArg> for Products {
    fn from(products: ProductsArg) -> Self {
        match products {
            ProductsArg::F32 => Self::F32,
            ProductsArg::Bf16 => Self::Bf16,
        }
    }
}

/// What a run may use.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Weights, hidden states and buffers; longer texts are run in parts.
    #[arg(long, value_name = "BYTES", default_value = "4G", value_parser = bytes::parse)]
    pub memory: u64,
    /// Threads; by default one per core, at most 16 per core.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
    /// No progress.
    #[arg(long, short)]
    pub quiet: bool,
}

impl RunArgs {
    /// Runs `f` on the threads asked for.
    pub(super) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        Ok(threads::pool(self.threads).context("cannot start threads")?.install(f))
    }
}

/// Set by Ctrl-C.
static CANCEL: AtomicBool = AtomicBool::new(false);

/// A flag that Ctrl-C sets, from the first call on.
pub(super) fn cancel_on_signal() -> anyhow::Result<&'static AtomicBool> {
    static CAUGHT: Mutex<bool> = Mutex::new(false);
    let mut caught = CAUGHT.lock().unwrap_or_else(PoisonError::into_inner);
    if !*caught {
        ctrlc::set_handler(|| CANCEL.store(true, Ordering::Relaxed)).context("cannot catch Ctrl-C")?;
        *caught = true;
    }
    Ok(&CANCEL)
}

impl TextArgs {
    /// Opens the model at `path`, which predicts tokens, to be run as the arguments say.
    pub(super) fn open(&self, path: &Path) -> Result<Model, ModelError> {
        let model = self.open_to_embed(path)?;
        model.check_predicts()?;
        Ok(model)
    }

    /// Opens the model at `path`, which may be an encoder, to be run as the arguments say.
    pub(super) fn open_to_embed(&self, path: &Path) -> Result<Model, ModelError> {
        let mut model = Model::open_to_embed(path, self.pre.as_deref())?;
        self.set_up(&mut model);
        Ok(model)
    }

    /// Makes `model` run as the arguments say.
    pub(super) fn set_up(&self, model: &mut Model) {
        model.compute_in(self.products.unwrap_or(ProductsArg::F32).into());
    }

    /// How much of a text is used, and how it is cut.
    pub(super) fn cut(&self) -> Cut {
        Cut { context: self.context, chunks: self.chunks }
    }

    /// The tokens of `text` by `model`, cut into chunks.
    pub(super) fn chunks(&self, model: &Model, text: &TextFile) -> Result<Chunks, TextError> {
        text.chunks(model, self.cut())
    }
}
