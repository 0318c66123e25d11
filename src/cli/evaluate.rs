//! `kquant evaluate`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kquant::arch::Pooling;
use kquant::context::{Context, Progress, Unit};
use kquant::evaluate::{compare_embeddings, embedding_work, embeddings, pooling_of};
use kquant::job::{TextFile, default_context};
use kquant::model::Model;
use serde_json::json;

use super::printable::printable_path;
use super::progress::Display;
use super::running::{RunArgs, cancel_on_signal};
use super::{Outcome, notes, print_json};

/// Embed the paragraphs of a text, and compare the embeddings with those of another model
///
/// For embedding models, which pool (encoders such as BERT, and decoders such as Qwen 3 Embedding): the states of a paragraph's tokens are pooled and normalised. What counts for search is how
/// far each embedding moved (its cosine) and whether paragraphs keep their neighbours.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant evaluate qwen3-embedding-q4_k_m.gguf --embedding wiki.test.raw --base Qwen3-Embedding-0.6B/
  kquant evaluate qwen3-embedding-q4_k_m.gguf --embedding questions.txt --json > embeddings.json")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Text whose paragraphs, with empty lines between them, are embedded.
    #[arg(long, value_name = "TEXT")]
    embedding: PathBuf,
    /// Compare with this model, usually the original.
    #[arg(long, value_name = "MODEL", value_parser = crate::cli::hub::model)]
    base: Option<PathBuf>,
    /// Tokens of a paragraph that are read at most; by default 512, or the model's context if that is shorter.
    #[arg(long, short, value_name = "N")]
    context: Option<usize>,
    /// Paragraphs that are read at most.
    #[arg(long, value_name = "N", default_value_t = 500)]
    paragraphs: usize,
    /// Name of the pre-tokenizer, where it is not recognised.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// Print JSON: the comparison or, without --base, the embeddings.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    means: RunArgs,
}

/// An embedding model.
struct Embedder {
    model: Model,
    pooling: Pooling,
}

impl Embedder {
    fn open(path: &Path, args: &Args) -> anyhow::Result<Self> {
        let model = Model::open_to_embed(path, args.pre.as_deref())?;
        notes::print(model.opened())?;
        let Some(pooling) = pooling_of(&model) else {
            let instead = match model.is_encoder() {
                true => {
                    "put modules.json and 1_Pooling/config.json into its folder, or set the key pooling_type"
                }
                false => "score it with kquant perplexity",
            };
            bail!(
                "{}: is no embedding model, as nothing says how to pool its states; {instead}",
                path.display()
            );
        };
        Ok(Self { model, pooling })
    }

    /// Returns the tokens of each of `texts`, with what the tokenizer puts before and after a text.
    fn tokens(&self, texts: &[&str], context: Option<usize>) -> anyhow::Result<Vec<Vec<u32>>> {
        let tokenizer = self.model.tokenizer()?;
        let most = context.unwrap_or_else(|| default_context(&self.model));
        let (begin, end) = (tokenizer.add_bos(), tokenizer.add_eos());
        let inner = most.checked_sub(usize::from(begin.is_some()) + usize::from(end.is_some()));
        let inner = inner.filter(|&n| n > 0).context("--context leaves no room for a text")?;
        let of = |text: &&str| {
            let mut tokens = tokenizer.encode(text, false)?;
            tokens.truncate(inner);
            Ok(begin.into_iter().chain(tokens).chain(end).collect())
        };
        texts.iter().map(of).collect()
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let embedder = Embedder::open(&args.model, args)?;
    let base = args.base.as_ref().map(|path| Embedder::open(path, args)).transpose()?;
    let text = TextFile::read(&args.embedding)?;
    let paragraphs: Vec<&str> = paragraphs(&text.content).take(args.paragraphs).collect();
    if paragraphs.is_empty() {
        bail!("{}: has no paragraph", args.embedding.display());
    }
    let ours = embed(&embedder, &paragraphs, args)?;
    let Some(base) = base else {
        if args.json {
            print_json(&json!({ "texts": paragraphs, "embeddings": ours }))?;
        } else {
            let dimensions = ours.first().map_or(0, Vec::len);
            writeln!(
                io::stdout(),
                "{} paragraphs, embeddings of {dimensions} values; --json prints them, --base compares them",
                ours.len()
            )?;
        }
        return Ok(Outcome::Done);
    };
    let theirs = embed(&base, &paragraphs, args)?;
    if ours.first().map(Vec::len) != theirs.first().map(Vec::len) {
        bail!("the embeddings of {} and of its base have different sizes", printable_path(&args.model));
    }
    let report = compare_embeddings(&ours, &theirs);
    if args.json {
        print_json(&report)?;
    } else {
        let mut out = io::stdout().lock();
        writeln!(out, "paragraphs             {}", report.texts)?;
        writeln!(out, "mean cosine            {:.6}", report.mean_cosine)?;
        writeln!(
            out,
            "worst cosine           {:.6} (paragraph {})",
            report.worst_cosine,
            report.worst_text + 1
        )?;
        writeln!(
            out,
            "shared of {:>2} neighbours {:.2} %",
            report.neighbours,
            100.0 * report.shared_neighbours
        )?;
    }
    Ok(Outcome::Done)
}

fn embed(embedder: &Embedder, paragraphs: &[&str], args: &Args) -> anyhow::Result<Vec<Vec<f32>>> {
    let texts = embedder.tokens(paragraphs, args.context)?;
    let display = Display::of_parts(args.means.quiet);
    display.begin(embedding_work(&embedder.model, &texts), Unit::Work);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let all = args.means.run(|| embeddings(&embedder.model, embedder.pooling, &texts, &run))?;
    display.finish();
    Ok(all?)
}

/// Returns the paragraphs of `text`, which empty lines separate.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .match_indices('\n')
            .find(|(at, _)| rest[at + 1..].split('\n').next().is_some_and(|line| line.trim().is_empty()));
        let (paragraph, left) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = left;
        Some(paragraph.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_end_paragraphs() {
        let all: Vec<&str> = paragraphs("\n\n one\ntwo \n \t\nthree\n\n\nfour").collect();
        assert_eq!(all, ["one\ntwo", "three", "four"]);
        assert_eq!(paragraphs(" \n \n").count(), 0);
    }
}
