//! `kquant split`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kquant::shards::{self, Cut, ShardLimit};
use kquant_formats::gguf::Gguf;
use kquant_formats::gguf::split::{prefix, shard_path};

use super::shards::{WriteArgs, open};
use super::{Outcome, bytes, folder};

/// Split a GGUF into files of limited size
///
/// Files are called PREFIX-00001-of-00003.gguf and so on; llama.cpp and kquant open all of them by the first one's name. No byte of
/// a tensor changes, and files are those of `llama-gguf-split`. A GGUF that is split already is split anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant split llama-70b.gguf -o upload/ --max-size 48G
  kquant split llama-8b.gguf -o parts/llama-8b --max-size 2G
  kquant split llama-8b.gguf -o parts/llama-8b --max-tensors 128 --no-tensor-first-split
  kquant merge parts/llama-8b-00001-of-00003.gguf -o llama-8b.gguf")]
pub(super) struct Args {
    /// A GGUF (any file of a split one).
    file: PathBuf,
    /// Prefix of the files' names, or a folder (a name that ends in `/`, or one that is there), where they are called like FILE.
    #[arg(long, short, value_name = "PREFIX or FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    limit: LimitArgs,
    /// Put only metadata into the first file, which then can be replaced without the others.
    #[arg(long)]
    no_tensor_first_split: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// The most that a file holds.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct LimitArgs {
    /// Most bytes of tensors per file: 500M, 2G in powers of 1000, as llama-gguf-split counts; 2GiB in powers of 1024. The metadata
    /// come on top, and a larger tensor gets a file of its own.
    #[arg(long, value_name = "BYTES", value_parser = bytes::parse_decimal)]
    max_size: Option<u64>,
    /// Most tensors per file.
    #[arg(long, value_name = "N")]
    max_tensors: Option<NonZeroUsize>,
}

impl LimitArgs {
    fn limit(&self) -> Option<ShardLimit> {
        self.max_size.map(ShardLimit::Bytes).or(self.max_tensors.map(ShardLimit::Tensors))
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let limit = args.limit.limit().context("no limit: give --max-size or --max-tensors")?;
    let gguf = open(&args.file)?;
    let plan = shards::split(&gguf, &Cut { limit, keys_first: args.no_tensor_first_split })?;
    let prefix = names(&args.out, &args.file)?;
    let count = u16::try_from(plan.len())?;
    let paths: Vec<PathBuf> = (0..count).map(|no| shard_path(&prefix, no, count)).collect();
    warn_of_large(&gguf, limit)?;
    let write = || args.write.write(&gguf, &plan, &paths);
    match folder::is_asked(&args.out) && !args.write.dry_run {
        true => folder::made_for(&args.out, write)?,
        false => write()?,
    }
    Ok(Outcome::Done)
}

/// Returns the prefix of the files' names.
fn names(out: &Path, file: &Path) -> anyhow::Result<PathBuf> {
    if !folder::is_asked(out) {
        return Ok(prefix(out));
    }
    let own = prefix(file);
    Ok(out.join(own.file_name().context("the input has no name to call the files by; give a prefix")?))
}

/// Says which tensors alone are larger than a file may be.
fn warn_of_large(gguf: &Gguf, limit: ShardLimit) -> io::Result<()> {
    let ShardLimit::Bytes(most) = limit else { return Ok(()) };
    let large = gguf.tensors().iter().filter(|t| t.bytes > most).count();
    if large > 0 {
        let what = "tensors are larger than --max-size, and get files of their own";
        writeln!(io::stderr(), "warning: {large} {what}")?;
    }
    Ok(())
}
