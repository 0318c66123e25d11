//! `--verify`: the result scored against its source.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use kquant::context;
use kquant::evaluate;
use kquant::evaluate::{Reference, Scores, TextScore};
use kquant::job::{Report, TextFile};
use kquant::model::Model;
use kquant::text::Chunks;

use super::{Args, means};
use crate::cli::Outcome;
use crate::cli::progress::Display;
use crate::cli::running::cancel_on_signal;
use kquant::context::Unit;

/// What the result is scored against, and on what.
pub(super) struct Judge {
    source: Model,
    texts: Vec<(PathBuf, Chunks)>,
}

impl Judge {
    /// Reads the texts, so that a bad one costs nothing; `None` where there are none.
    pub(super) fn new(args: &Args) -> anyhow::Result<Option<Self>> {
        if args.verify.is_empty() {
            return Ok(None);
        }
        let source = args.text_args.open(args.teacher.as_ref().unwrap_or(&args.model))?;
        let read =
            |text: &PathBuf| Ok((text.clone(), args.text_args.chunks(&source, &TextFile::read(text)?)?));
        let texts = args.verify.iter().map(read).collect::<anyhow::Result<_>>()?;
        Ok(Some(Self { source, texts }))
    }

    /// Scores what was written against what it was made of.
    pub(super) fn verify(&self, args: &Args, report: &Report) -> anyhow::Result<Scores> {
        let Self { source, texts } = self;
        let out = report.files.first().context("nothing was written")?;
        let mut result = Model::open(&out.path, None)?;
        args.text_args.set_up(&mut result);
        let means = means(args);
        let cancel = cancel_on_signal()?;
        let ids = result.ids_in(source)?;
        let reference = match &ids {
            None => Reference::Model(source),
            Some(ids) => Reference::Larger { model: source, ids },
        };
        let mut scores = Vec::new();
        for (text, chunks) in texts {
            // A trimmed vocabulary cuts texts otherwise.
            let again = ids.as_ref().map(|_| args.text_args.chunks(&result, &TextFile::read(text)?));
            let again = again.transpose()?;
            let chunks = again.as_ref().unwrap_or(chunks);
            let total = evaluate::work(source, chunks) + evaluate::work(&result, chunks);
            let display = Display::new(total, Unit::Work, args.quiet);
            let run = context::Context { memory: means.memory, cancel, progress: &display };
            let report = means
                .run(|| evaluate::evaluate(&result, Some(&reference), chunks, None, &run, &mut |_| {}))?;
            display.finish();
            scores.push(TextScore { text: text.clone(), report: report? });
        }
        Ok(Scores::new(scores))
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
