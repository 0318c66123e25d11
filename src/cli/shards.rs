//! What `kquant split` and `kquant merge` share.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kquant::checkpoint::type_layout;
use kquant::context::{Context, Unit};
use kquant::hash::Digest;
use kquant::outputs;
use kquant::shards::{self, ShardPlan};
use kquant_formats::gguf::Gguf;

use super::printable::{printable, printable_path};
use super::progress::Display;
use super::running::cancel_on_signal;
use super::{bytes, print_json};

/// How files are written, and what is said of it.
#[derive(Debug, clap::Args)]
pub(super) struct WriteArgs {
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    /// Show what would be written, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON: files and hashes as `kquant hash --json` prints them; with --dry-run, without hashes.
    #[arg(long)]
    json: bool,
    /// No progress and no summary.
    #[arg(long, short)]
    quiet: bool,
}

/// A file that is not written yet, as `--dry-run` shows it.
#[derive(serde::Serialize)]
struct FileView<'a> {
    path: &'a Path,
    /// Bytes of the file.
    bytes: u64,
    /// Number of its tensors.
    tensors: usize,
}

/// Opens the GGUF at `path` with all its files.
pub(super) fn open(path: &Path) -> anyhow::Result<Gguf> {
    Gguf::open(path, type_layout).context("split and merge take GGUF files")
}

impl WriteArgs {
    /// Writes the files of `plan`, made of `gguf`, to `paths`, and prints what was written.
    pub(super) fn write(&self, gguf: &Gguf, plan: &[ShardPlan], paths: &[PathBuf]) -> anyhow::Result<()> {
        let inputs: Vec<PathBuf> = gguf.files().map(|file| file.path().to_owned()).collect();
        let outputs: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        outputs::check(&inputs, &outputs)?;
        if self.dry_run {
            return self.print_plan(plan, &outputs);
        }
        let display = Display::new(0, Unit::Bytes, self.quiet);
        let run = Context { memory: 0, cancel: cancel_on_signal()?, progress: &display };
        let written = shards::write(gguf, plan, paths, self.force, &run);
        display.finish();
        let written = written?;
        if self.json {
            return print_json(&written);
        }
        if !self.quiet {
            written.iter().try_for_each(print_file)?;
        }
        Ok(())
    }

    fn print_plan<'a>(&self, plan: &[ShardPlan], paths: &[&'a Path]) -> anyhow::Result<()> {
        let view = |(shard, &path): (&ShardPlan, &&'a Path)| FileView {
            path,
            bytes: shard.layout.total,
            tensors: shard.tensors.len(),
        };
        let files: Vec<FileView> = plan.iter().zip(paths).map(view).collect();
        if self.json {
            return print_json(&files);
        }
        let mut out = io::stdout().lock();
        for FileView { path, bytes, tensors } in files {
            writeln!(out, "{}: {}, {tensors} tensors", printable_path(path), bytes::show(bytes))?;
        }
        Ok(())
    }
}

/// Prints path, size and hash of a file that was written.
pub(super) fn print_file(file: &Digest) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (size, tensors) = (bytes::show(file.bytes), file.tensors.len());
    writeln!(out, "{}: {size}, {tensors} tensors", printable_path(&file.path))?;
    writeln!(out, "  sha256 {}", printable(&file.sha256))
}
