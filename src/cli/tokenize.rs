//! `kquant tokenize`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use kquant::model::Model;

use super::Outcome;
use kquant::job::TextFile;

/// Print the token ids of texts, one JSON array per text
///
/// Nothing is added before or after a text. The files come first, then the prompts, each in the order given.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant tokenize Llama-3.2-1B/ --prompt 'The whale'
  kquant tokenize model-q4_k_m.gguf --text wiki.test.raw --text other.txt")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Text to tokenize, UTF-8, a file or a pipe; repeatable.
    #[arg(long, value_name = "FILE", required_unless_present = "prompt")]
    text: Vec<PathBuf>,
    /// Text on the command line; repeatable.
    #[arg(long, short, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Read texts of control tokens, such as </s>, as these tokens.
    #[arg(long)]
    special: bool,
    /// Name of the pre-tokenizer, where it is not recognised.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let tokenizer = Model::open_to_embed(&args.model, args.pre.as_deref())?.tokenizer()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut print = |text: &str| -> anyhow::Result<()> {
        serde_json::to_writer(&mut out, &tokenizer.encode(text, args.special)?).map_err(io::Error::from)?;
        Ok(writeln!(out)?)
    };
    for path in &args.text {
        print(&TextFile::read(path)?.content)?;
    }
    for text in &args.prompt {
        print(text)?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}
