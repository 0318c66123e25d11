//! `kquant prune --vocab`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use kquant::context::Context;
use kquant::hash::bytes_sha256;
use kquant::job::{self, PruneVocabReport, Pruned, ScriptTokens, TextFile, VocabRequest, VocabSize};
use kquant::model::Model;
use kquant::vocab::Tokenizer;

use super::Args;
use super::written::Report;
use crate::cli::print_json;
use crate::cli::printable::printable_path;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;

/// Trims the vocabulary to `size` by `text`, writes the result and tells of it.
pub(super) fn prune(args: &Args, model: &Model, text: &TextFile, size: VocabSize) -> anyhow::Result<()> {
    let asked = args.keep_tokens.as_deref().map(|path| asked(path, model)).transpose()?;
    let held_out = args.held_out.as_deref().map(TextFile::read).transpose()?;
    let pruned = args.means.run(|| pruned(args, model, text, &asked.unwrap_or_default(), size))??;
    let held_out =
        held_out.map(|text| job::fertility(model.converted(), &pruned.model, &text.content)).transpose()?;
    let kind = args.kind.as_deref().unwrap_or("COPY");
    let report = Report::of_written(args, model, (pruned.model, kind), &pruned.report)?;
    let report = Report { held_out, ..report };
    match args.json {
        true => print_json(&report),
        false => Ok(tell(args, &report)?),
    }
}

/// The ids of the tokens that `path` lists.
fn asked(path: &Path, model: &Model) -> anyhow::Result<Vec<u32>> {
    let tokenizer = Tokenizer::from_metadata(model.metadata())?;
    let count = tokenizer.vocab_size() as u32;
    let ids: HashMap<&str, u32> = (0..count).map(|id| (tokenizer.text(id), id)).collect();
    let list = TextFile::read(path)?;
    let id = |(number, line): (usize, &str)| {
        let by_number = || line.strip_prefix('#')?.parse().ok().filter(|&id| id < count);
        ids.get(line).copied().or_else(by_number).with_context(|| {
            format!(
                "{}: line {}: {line:?} is no token: give its text as `kquant tokenize` shows it, or # and its id",
                path.display(),
                number + 1
            )
        })
    };
    list.content.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(id).collect()
}

/// Trims the vocabulary of `model` by `text` and the ids `asked`.
fn pruned(
    args: &Args,
    model: &Model,
    text: &TextFile,
    asked: &[u32],
    size: VocabSize,
) -> anyhow::Result<Pruned<PruneVocabReport>> {
    let (tokens, chunks) = text.tokens_and_chunks(model, args.text_args.cut())?;
    let display = Display::of_parts(args.means.quiet);
    let run = Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let request = VocabRequest {
        chunks: &chunks,
        tokens: &tokens,
        text_sha256: &bytes_sha256(text.content.as_bytes()),
        asked,
        size,
    };
    let pruned = job::prune_vocab(model, &request, &run);
    display.finish();
    Ok(pruned?)
}

fn tell(args: &Args, report: &Report<PruneVocabReport>) -> io::Result<()> {
    let (of, out) = (report.pruned, &mut io::stdout().lock());
    writeln!(out, "{}: {} of {} tokens", printable_path(&args.out), of.tokens, of.tokens_before)?;
    writeln!(out, "parameters: {} of {}", of.parameters, of.parameters_before)?;
    writeln!(out, "{}", report.bytes_line())?;
    writeln!(out, "divergence on the text: {:.6} nats per token", of.kl)?;
    if of.tokens < of.of_text {
        writeln!(out, "{} tokens of the text are lost", of.of_text - of.tokens)?;
    }
    for ScriptTokens { script, before, after } in of.scripts.iter().filter(|of| of.after < of.before) {
        writeln!(out, "{script}: {after} of {before} tokens")?;
    }
    if let Some(f) = &report.held_out {
        let per_character = |tokens: usize| tokens as f64 / f.characters.max(1) as f64;
        writeln!(
            out,
            "held-out text: {:.4} tokens per character, before {:.4}; {:.2} % of the tokens alike",
            per_character(f.tokens),
            per_character(f.tokens_before),
            100.0 * f.alike
        )?;
    }
    Ok(())
}
