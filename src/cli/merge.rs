//! `kquant merge`.

use std::path::PathBuf;
use std::slice;

use kquant::shards;

use super::Outcome;
use super::shards::{WriteArgs, open};

/// Merge the files of a split GGUF into one
///
/// No byte of a tensor changes, and the file is that of `llama-gguf-split --merge`: the keys of the split stay, with `split.count` 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant merge llama-70b-00001-of-00003.gguf -o llama-70b.gguf")]
pub(super) struct Args {
    /// A file of the split GGUF; the others are found beside it.
    file: PathBuf,
    /// The GGUF to write.
    #[arg(long, short)]
    out: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let gguf = open(&args.file)?;
    let plan = shards::merge(&gguf)?;
    args.write.write(&gguf, slice::from_ref(&plan), slice::from_ref(&args.out))?;
    Ok(Outcome::Done)
}
