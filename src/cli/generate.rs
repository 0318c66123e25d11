//! `kquant generate`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use kquant::model::{Model, Sampler};

use super::running::{RunArgs, cancel_on_signal};
use super::{Outcome, notes};

/// Continue a prompt, to see that a file talks
///
/// Greedy by default, so that two files can be compared. Meant for a sample, not for speed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kquant generate model-q4_k_m.gguf --prompt 'The whale' --tokens 64")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Text to continue.
    #[arg(long, short, value_name = "TEXT")]
    prompt: String,
    /// Tokens to add at most; the model may end the text earlier.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 64)]
    tokens: usize,
    /// 0 takes the likeliest token; more makes unlikely ones likelier.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Seed of the random choices.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Name of the pre-tokenizer, where it is not recognised.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    #[command(flatten)]
    means: RunArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let model = Model::open(&args.model, args.pre.as_deref())?;
    notes::print(model.opened())?;
    args.means.run(|| generate(args, &model))??;
    Ok(Outcome::Done)
}

fn generate(args: &Args, model: &Model) -> anyhow::Result<()> {
    let cancel = cancel_on_signal()?;
    let tokenizer = model.tokenizer()?;
    let mut next: Vec<u32> = tokenizer.add_bos().into_iter().collect();
    next.extend(tokenizer.encode(&args.prompt, true)?);
    // A model without BOS needs something to follow.
    if next.is_empty() {
        next.extend(tokenizer.bos().or(tokenizer.eos()));
    }
    let mut session = model.session(args.means.memory, next.len().saturating_add(args.tokens))?;
    let sampler = Sampler::new(args.temperature, args.seed);
    let mut out = io::stdout().lock();
    write!(out, "{}", args.prompt)?;
    for position in 0..args.tokens as u64 {
        if position > 0 && session.room() == 0 || cancel.load(Ordering::Relaxed) {
            break;
        }
        let token = sampler.choose(&mut session.feed(&next)?, 0, position);
        if tokenizer.is_end(token) {
            break;
        }
        out.write_all(tokenizer.piece(token))?;
        out.flush()?;
        next = vec![token];
    }
    writeln!(out)?;
    Ok(())
}
