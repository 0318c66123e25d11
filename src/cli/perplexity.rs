//! `kquant perplexity`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use kquant::context;
use kquant::evaluate::{Listeners, Reference, Running, Scores, TextScore, evaluate, work};
use kquant::job::TextFile;
use kquant::model::Model;
use kquant::outputs;
use kquant::report::{TextFindings, findings};
use kquant::text::Chunks;
use kquant_formats::logits::{LogitsFile, LogitsWriter};
use kquant_formats::partial::PartialFile;
use kquant_formats::whole;

use super::printable::{printable, printable_lines, printable_path};
use super::progress::Display;
use super::running::{ProductsArg, RunArgs, TextArgs, cancel_on_signal};
use super::{Outcome, notes, page, print_json};
use kquant::context::Unit;

/// Score a model on a text: perplexity, and divergence from the model it was made of
///
/// Perplexity is llama-perplexity's: the second half of each chunk is scored. With --base, both models run over the same
/// chunks and are compared in full precision. Where MODEL is of a trimmed vocabulary (`kquant prune`), its original is a base,
/// too: it reads the same tokens, and lost tokens cost their probability, -ln(1 - their sum). Chunks longer than a window that the model has and no GGUF of it can say are warned
/// of.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kquant perplexity model-q4_k_m.gguf --text wiki.test.raw
  kquant perplexity model-q4_k_m.gguf --text wiki.test.raw --base Llama-3.2-1B/ --chunks 100 --json result.json
  kquant perplexity model-q4_k_m.gguf --text wiki.test.raw --text stories.txt --base Llama-3.2-1B/
  kquant perplexity model-q4_k_m.gguf --text wiki.test.raw --base Llama-3.2-1B/ --chunks 20 --html report.html
  kquant perplexity gemma-3-270m-64k.gguf --text eval.txt --base gemma-3-270m.gguf
  kquant perplexity Llama-3.2-1B/ --text wiki.test.raw --save-logits base.logits")]
pub(super) struct Args {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    #[arg(value_parser = crate::cli::hub::model)]
    model: PathBuf,
    /// Text to score, UTF-8, a file or a pipe; repeatable: each text is scored, and the worst is named. Not needed where --base is a
    /// logits file, which has its own.
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Compare with this model, or with a logits file that llama-perplexity or --save-logits wrote.
    #[arg(long, value_name = "MODEL|LOGITS", value_parser = crate::cli::hub::model)]
    base: Option<PathBuf>,
    /// Write the model's log-probabilities in llama-perplexity's format (16 bits each).
    #[arg(long, value_name = "FILE")]
    save_logits: Option<PathBuf>,
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    /// Write the result as JSON; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page for a browser, as `kquant compare` does: figures, divergence by position, the worst passages, what both models write.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Round MODEL's activations as llama.cpp does (8 bits for quantized weights); the base stays exact.
    #[arg(long)]
    round_activations: bool,
    #[command(flatten)]
    text_args: TextArgs,
    #[command(flatten)]
    means: RunArgs,
}

/// What `--base` names.
enum Base {
    Model(Box<Model>),
    /// A model with more tokens, and the id there of each token of the model that is scored.
    Larger(Box<Model>, Vec<u32>),
    Logits(LogitsFile),
}

impl Base {
    /// The base if it is a model that is run.
    fn model(&self) -> Option<&Model> {
        match self {
            Self::Model(model) | Self::Larger(model, _) => Some(model),
            Self::Logits(_) => None,
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let json = args.json.as_deref().filter(|path| path.as_os_str() != "-");
    check_outputs(args, json)?;
    let mut model = args.text_args.open(&args.model)?;
    notes::print(model.opened())?;
    if kquant::evaluate::pooling_of(&model).is_some() {
        bail!(
            "{}: is an embedding model, whose predictions of tokens mean nothing: compare it with \
             `kquant evaluate MODEL --embedding TEXT --base ORIGINAL`",
            args.model.display()
        );
    }
    if args.round_activations {
        if args.text_args.products == Some(ProductsArg::Bf16) {
            bail!(
                "--round-activations predicts llama.cpp's products; bf16 would round them again: leave one out"
            );
        }
        model.round_activations();
    }
    let base = args.base.as_deref().map(|path| open_base(path, &model, args)).transpose()?;
    let texts = texts(args, &model, base.as_ref())?;
    let longest = texts.iter().map(|(_, chunks)| chunks.context()).max().unwrap_or(0);
    warn(&args.model, &model, longest)?;
    if let (Some(path), Some(base)) = (&args.base, base.as_ref().and_then(Base::model)) {
        warn(path, base, longest)?;
    }
    // From here on Ctrl-C ends the run in order: it would leave files that are begun before.
    let cancel = cancel_on_signal()?;
    let json_file = json.map(|path| PartialFile::create(path, 0, args.force)).transpose()?;
    let (mut scores, mut files, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for (text, chunks) in &texts {
        let scored = args.means.run(|| score(args, &model, base.as_ref(), (text, chunks), cancel))??;
        scores.push(scored.score);
        files.extend(scored.logits);
        found.extend(scored.found);
    }
    if let Some(path) = &args.html {
        files.push(write_page(args, path, (&model, base.as_ref()), &texts, found)?);
    }
    let report = Scores::new(scores);
    if let Some(mut file) = json_file {
        file.fill((serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
        files.push(file);
    }
    PartialFile::finish_all(files)?;
    if args.json.is_some() && json.is_none() {
        print_json(&report)?;
    } else {
        write!(io::stdout(), "{}", printable_lines(&report.text()))?;
    }
    Ok(Outcome::Done)
}

/// The texts to score, cut into chunks.
fn texts(args: &Args, model: &Model, base: Option<&Base>) -> anyhow::Result<Vec<(PathBuf, Chunks)>> {
    if args.text.len() > 1 && (args.save_logits.is_some() || matches!(base, Some(Base::Logits(_)))) {
        bail!("a logits file is of one text: give one --text");
    }
    if let Some(Base::Logits(file)) = base {
        let text = args.text.first().map(PathBuf::as_path);
        let path = text.unwrap_or(file.path()).to_owned();
        return Ok(vec![(path, recorded(file, text, model, args)?)]);
    }
    if args.text.is_empty() {
        bail!("no text to score: give --text FILE");
    }
    let read = |text: &PathBuf| Ok((text.clone(), args.text_args.chunks(model, &TextFile::read(text)?)?));
    args.text.iter().map(read).collect()
}

/// Checks before the work that the outputs can be written and destroy no input.
fn check_outputs(args: &Args, json: Option<&Path>) -> anyhow::Result<()> {
    let mut inputs = outputs::model_files(&args.model);
    inputs.extend(args.base.iter().flat_map(|base| outputs::model_files(base)));
    inputs.extend(args.text.clone());
    let all: Vec<&Path> =
        args.save_logits.as_deref().into_iter().chain(json).chain(args.html.as_deref()).collect();
    outputs::check(&inputs, &all)?;
    Ok(outputs::try_start(&all, args.force)?)
}

/// Says what a GGUF of the model at `path` computes otherwise in chunks of `context` tokens.
fn warn(path: &Path, model: &Model, context: usize) -> io::Result<()> {
    for what in model.differences(context) {
        writeln!(io::stderr(), "warning: {}: {}", printable_path(path), printable(&what))?;
    }
    Ok(())
}

fn open_base(path: &Path, model: &Model, args: &Args) -> anyhow::Result<Base> {
    // What cannot be read is told of when it is opened as a model.
    if whole::start(path, 8).is_ok_and(|magic| magic == b"_logits_") {
        return Ok(Base::Logits(LogitsFile::open(path)?));
    }
    let base = args.text_args.open(path)?;
    notes::print(base.opened())?;
    let ids = model.ids_in(&base)?;
    let base = Box::new(base);
    Ok(match ids {
        None => Base::Model(base),
        Some(ids) => Base::Larger(base, ids),
    })
}

/// The chunks that a logits file was made of; a text given as well must be the same.
fn recorded(file: &LogitsFile, text: Option<&Path>, model: &Model, args: &Args) -> anyhow::Result<Chunks> {
    let name = file.path().display();
    if file.vocabulary() != model.vocab_size() {
        bail!(
            "{name}: made with a vocabulary of {} tokens, the model has {}; give the logits of its own base",
            file.vocabulary(),
            model.vocab_size()
        );
    }
    if let Some(context) = args.text_args.context.filter(|&c| c != file.context()) {
        bail!("{name}: made with --context {}, not {context}", file.context());
    }
    let tokenizer = model.tokenizer()?;
    let chunks =
        Chunks::recorded(file.tokens().to_vec(), file.context(), args.text_args.chunks, tokenizer.add_bos())
            .with_context(|| name.to_string())?;
    if let Some(text) = text {
        let args = TextArgs { context: Some(file.context()), ..args.text_args.clone() };
        let given = args.chunks(model, &TextFile::read(text)?)?;
        let common = given.text().len().min(chunks.text().len());
        if given.text()[..common] != chunks.text()[..common] {
            bail!("{name}: made of another text than {}; leave out --text to use its own", text.display());
        }
    }
    Ok(chunks)
}

/// Writes the page of what was found on `texts`, to a file that has no name yet.
fn write_page(
    args: &Args,
    path: &Path,
    (model, base): (&Model, Option<&Base>),
    texts: &[(PathBuf, Chunks)],
    found: Vec<TextFindings>,
) -> anyhow::Result<PartialFile> {
    let of_model = args.base.as_deref().filter(|_| base.is_some_and(|base| base.model().is_some()));
    let display = Display::of_parts(args.means.quiet);
    let run = context::Context { memory: args.means.memory, cancel: cancel_on_signal()?, progress: &display };
    let report = args.means.run(|| -> anyhow::Result<_> {
        let mut report = page::of_files(of_model, &args.model, args.text_args.pre.as_deref(), &run)?;
        report.texts = found;
        if let (Some(Base::Model(base)), Some((_, chunks))) = (base, texts.first()) {
            report.samples = Some(page::samples((base, model), chunks, &run)?);
        }
        Ok(report)
    })?;
    display.finish();
    page::of_report(path, &report?, Vec::new(), args.force)
}

/// What one text gives.
struct ScoredText {
    score: TextScore,
    /// The logits file that was asked for, still without its name.
    logits: Option<PartialFile>,
    /// What a page shows, where one was asked for.
    found: Option<TextFindings>,
}

fn score(
    args: &Args,
    model: &Model,
    base: Option<&Base>,
    (text, chunks): (&Path, &Chunks),
    cancel: &AtomicBool,
) -> anyhow::Result<ScoredText> {
    let reference = base.map(|base| match base {
        Base::Model(model) => Reference::Model(model),
        Base::Larger(model, ids) => Reference::Larger { model, ids },
        Base::Logits(file) => Reference::Logits(file),
    });
    let mut writer = match &args.save_logits {
        Some(path) => {
            let (context, vocab) = (chunks.context(), model.vocab_size());
            Some(LogitsWriter::create(path, context, vocab, chunks.text(), args.force)?)
        }
        None => None,
    };
    let total = work(model, chunks) + base.and_then(Base::model).map_or(0, |base| work(base, chunks));
    let display = Display::new(total, Unit::Work, args.means.quiet);
    let run = context::Context { memory: args.means.memory, cancel, progress: &display };
    let mut running = |running: Running| {
        let kl = running.kl.map_or_else(String::new, |kl| format!(", KL {kl:.5}"));
        display.note(format!("chunk {} of {}: {:.4}{kl}", running.chunks, chunks.len(), running.perplexity));
    };
    let (report, found) = if args.html.is_some() {
        let mut listeners = Listeners { record: writer.as_mut(), running: &mut running, watch: None };
        let name = text.display().to_string();
        let found = findings((model, reference.as_ref()), (&name, chunks), &run, &mut listeners)?;
        (found.report.clone(), Some(found))
    } else {
        (evaluate(model, reference.as_ref(), chunks, writer.as_mut(), &run, &mut running)?, None)
    };
    display.finish();
    let logits = writer.map(LogitsWriter::complete).transpose()?;
    Ok(ScoredText { score: TextScore { text: text.to_owned(), report }, logits, found })
}
