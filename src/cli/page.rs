//! `--html`: the report to look at, which several commands write.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kquant::context::{Context, Unit};
use kquant::evaluate::{self, Listeners, Reference};
use kquant::model::Model;
use kquant::report::{Inspected, ModelReport, Page, SamplePair, Section, TextFindings, findings};
use kquant::text::Chunks;
use kquant_formats::partial::PartialFile;

/// Beginnings that both models continue where nothing is said.
const SAMPLES: usize = 3;

/// Chunks that a command scores for its page alone, at most.
pub(super) const CHUNKS: usize = 16;

/// Reads what the files of `model`, and of the `base` that it was made of, tell.
pub(super) fn of_files(
    base: Option<&Path>,
    model: &Path,
    pre: Option<&str>,
    run: &Context,
) -> Result<ModelReport> {
    let base = base.map(|path| Inspected::open(path, pre)).transpose()?;
    Ok(ModelReport::read(base.as_ref(), &Inspected::open(model, pre)?, run)?)
}

/// Compares `model` with `base` on `chunks` of the text at `path`.
pub(super) fn on_text(
    (base, model): (&Reference, &Model),
    (path, chunks): (&Path, &Chunks),
    run: &Context,
) -> Result<TextFindings> {
    let before = match base {
        Reference::Model(base) | Reference::Larger { model: base, .. } => evaluate::work(base, chunks),
        Reference::Logits(_) => 0,
    };
    run.progress.begin(before + evaluate::work(model, chunks), Unit::Work);
    let mut listeners = Listeners { record: None, running: &mut |_| {}, watch: None };
    let name = path.display().to_string();
    Ok(findings((model, Some(base)), (&name, chunks), run, &mut listeners)?)
}

/// Lets both models write.
pub(super) fn samples(models: (&Model, &Model), chunks: &Chunks, run: &Context) -> Result<Vec<SamplePair>> {
    Ok(kquant::report::samples(models, chunks, SAMPLES, run)?)
}

/// Compares the model at `model` with `base` on some chunks of the text at `text`, cut by `chunks` for the model, and lets both write where
/// they have the same tokens.
pub(super) fn add_text(
    report: &mut ModelReport,
    (base, model): (&Model, &Model),
    (text, chunks): (&PathBuf, &Chunks),
    run: &Context,
) -> Result<()> {
    let ids = model.ids_in(base)?;
    let reference = match &ids {
        None => Reference::Model(base),
        Some(ids) => Reference::Larger { model: base, ids },
    };
    report.texts.push(on_text((&reference, model), (text, chunks), run)?);
    if ids.is_none() {
        report.samples = Some(samples((base, model), chunks, run)?);
    }
    Ok(())
}

/// Writes the page of `report`, with sections of the command's `own` after that of the files, to a file that has no name yet.
pub(super) fn of_report(
    path: &Path,
    report: &ModelReport,
    own: Vec<Section>,
    force: bool,
) -> Result<PartialFile> {
    let title = match &report.base {
        Some(base) => format!("{} beside {}", report.model.name, base.name),
        None => report.model.name.clone(),
    };
    let mut sections = report.sections();
    sections.splice(1..1, own);
    fill(path, (&title, &report.lead()), sections, force)
}

/// Writes the page `title` of `sections` to a file that has no name yet.
pub(super) fn fill(
    path: &Path,
    (title, lead): (&str, &str),
    sections: Vec<Section>,
    force: bool,
) -> Result<PartialFile> {
    let page = Page {
        title: title.to_owned(),
        lead: lead.to_owned(),
        command: command(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sections,
    };
    let mut file = PartialFile::create(path, 0, force)?;
    file.fill(page.html().as_bytes())?;
    Ok(file)
}

/// Returns the command as it was typed, quoted as a shell takes it.
fn command() -> String {
    let args = std::env::args_os().skip(1).map(|arg| quoted(&arg.to_string_lossy()));
    ["kquant".to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" ")
}

/// Returns `arg` in quotes if a shell would take it apart.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=,:+@%".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        let all = ["--size=2G", "a b", "it's", "", "$HOME", "naïve.gguf"].map(quoted);
        assert_eq!(all, ["--size=2G", "'a b'", "'it'\\''s'", "''", "'$HOME'", "naïve.gguf"]);
    }
}
