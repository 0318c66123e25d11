//! `--verify`: the result scored against its source.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kquant::context;
use kquant::evaluate;
use kquant::evaluate::{Reference, Scores, TextScore};
use kquant::job::TextFile;
use kquant::model::Model;
use kquant::report::{SamplePair, TextFindings};
use kquant::text::Chunks;

use super::Args;
use crate::cli::Outcome;
use crate::cli::page;
use crate::cli::progress::Display;
use crate::cli::running::{RunArgs, TextArgs, cancel_on_signal};
use kquant::context::Unit;

/// Scores, what was found on the texts, and what both models write.
type Looked = (Scores, Vec<TextFindings>, Option<Vec<SamplePair>>);

/// What the result is scored against, and on what.
pub(in crate::cli) struct Judge {
    source: Model,
    texts: Vec<(PathBuf, Chunks)>,
}

impl Judge {
    /// Reads the texts, so that a bad one costs nothing; `None` where there are none.
    pub(in crate::cli) fn new(
        (model, text_args): (&Path, &TextArgs),
        texts: &[PathBuf],
    ) -> anyhow::Result<Option<Self>> {
        if texts.is_empty() {
            return Ok(None);
        }
        let source = text_args.open(model)?;
        let read = |text: &PathBuf| Ok((text.clone(), text_args.chunks(&source, &TextFile::read(text)?)?));
        let texts = texts.iter().map(read).collect::<anyhow::Result<_>>()?;
        Ok(Some(Self { source, texts }))
    }

    /// Scores the model at `out` against what it was made of.
    pub(in crate::cli) fn verify(
        &self,
        out: &Path,
        text_args: &TextArgs,
        means: &RunArgs,
    ) -> anyhow::Result<Scores> {
        let mut scores = Vec::new();
        self.each(out, text_args, means, |(text, chunks), (reference, result), run| {
            let report = evaluate::evaluate(result, Some(reference), chunks, None, run, &mut |_| {})?;
            scores.push(TextScore { text: text.to_owned(), report });
            Ok(())
        })?;
        Ok(Scores::new(scores))
    }

    /// Does the same, and returns what a page shows of it: what was found on the texts, and what both models write.
    pub(super) fn look(&self, out: &Path, text_args: &TextArgs, means: &RunArgs) -> anyhow::Result<Looked> {
        let (mut scores, mut found, mut samples) = (Vec::new(), Vec::new(), None);
        self.each(out, text_args, means, |(text, chunks), (reference, result), run| {
            let on_text = page::on_text((reference, result), (text, chunks), run)?;
            scores.push(TextScore { text: text.to_owned(), report: on_text.report.clone() });
            found.push(on_text);
            if let (Reference::Model(source), None) = (reference, &samples) {
                samples = Some(page::samples((source, result), chunks, run)?);
            }
            Ok(())
        })?;
        Ok((Scores::new(scores), found, samples))
    }

    /// Opens the model at `out` and gives each text to `score`.
    fn each(
        &self,
        out: &Path,
        text_args: &TextArgs,
        means: &RunArgs,
        mut score: impl FnMut((&Path, &Chunks), (&Reference, &Model), &context::Context) -> anyhow::Result<()>
        + Send,
    ) -> anyhow::Result<()> {
        let Self { source, texts } = self;
        let mut result = Model::open(out, None)?;
        text_args.set_up(&mut result);
        let cancel = cancel_on_signal()?;
        let ids = result.ids_in(source)?;
        let reference = match &ids {
            None => Reference::Model(source),
            Some(ids) => Reference::Larger { model: source, ids },
        };
        for (text, chunks) in texts {
            // A trimmed vocabulary cuts texts otherwise.
            let again = ids.as_ref().map(|_| text_args.chunks(&result, &TextFile::read(text)?));
            let again = again.transpose()?;
            let chunks = again.as_ref().unwrap_or(chunks);
            let total = evaluate::work(source, chunks) + evaluate::work(&result, chunks);
            let display = Display::new(total, Unit::Work, means.quiet);
            let run = context::Context { memory: means.memory, cancel, progress: &display };
            means.run(|| score((text, chunks), (&reference, &result), &run))??;
            display.finish();
        }
        Ok(())
    }
}

/// The mean KL divergence that was measured, on the worst text.
pub(super) fn divergence(proof: Option<&Scores>) -> Option<f64> {
    proof.and_then(Scores::worst).map(|(_, kl)| kl)
}

/// The exit code that `--max-kl` asks for.
pub(super) fn check_divergence(args: &Args, proof: Option<&Scores>) -> anyhow::Result<Outcome> {
    match (divergence(proof), args.max_kl) {
        // A divergence or limit that is no number is no pass either.
        (Some(kl), Some(limit)) if kl.partial_cmp(&limit).is_none_or(Ordering::is_gt) => {
            writeln!(io::stderr(), "check failed: mean KL divergence {kl:.6} is more than --max-kl {limit}")?;
            Ok(Outcome::CheckFailed)
        }
        _ => Ok(Outcome::Done),
    }
}
