//! Prunes channels of the feed-forward network and writes the model in the source's shapes, for measurements:
//!
//! ```sh
//! cargo run --release --example prune_channels -- MODEL TEXT WIDTH SCORE OUT.gguf
//! ```
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use kquant::context::{Context, Silent};
use kquant::job::{Cut, Job, Outputs, Resources, Statistics, TextFile, Types, prepare};
use kquant::layerwise::{Calibrated, CalibrationReport};
use kquant::model::Model;
use kquant::prune::{Channels, Score};
use kquant::recipe::{Options, file_type};
use kquant::statistics::Fishers;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, text, width, score, out] = &args[..] else { return Err("MODEL TEXT WIDTH SCORE OUT".into()) };
    let model = Model::open(&PathBuf::from(path), None)?;
    let chunks = TextFile::read(&PathBuf::from(text))?
        .chunks(&model, Cut { context: Some(256), chunks: Some(512) })?;
    let cancel = AtomicBool::new(false);
    let memory = 4 << 30;
    let fishers = (score != "wanda" && score != "plain")
        .then(|| Fishers::collect(&model, &chunks, memory, 0, &cancel, &Silent))
        .transpose()?;
    let job = Channels {
        model: &model,
        chunks: &chunks,
        fishers: fishers.as_ref(),
        width: width.parse()?,
        score: if score == "wanda" { Score::Wanda } else { Score::SecondOrder },
        repair_others: score == "repair",
    };
    let pruned = job.run(&Context { memory, cancel: &cancel, progress: &Silent })?;
    for layer in &pruned.layers {
        println!("layer {} price {:.5} correction {:.3}", layer.layer, layer.price, layer.correction);
    }
    let prepared = prepare(Job {
        model: PathBuf::from(path),
        io: kquant::checkpoint::Io::Auto,
        types: Types::FileType(Options::new(file_type("F32")?)),
        statistics: Statistics::None,
        encoder: kquant::encode::by_name("ggml").ok_or("no encoder")?,
        metadata: None,
        overrides: Vec::new(),
        keep_split: false,
        pre: None,
    })?;
    let outputs = Outputs { model: PathBuf::from(out), manifest: None, report: None, force: true };
    let calibrated = Calibrated { stash: pruned.stash, report: CalibrationReport::default() };
    prepared.run(Some(&calibrated), &outputs, &Resources { memory, threads: 0 }, &cancel, &Silent)?;
    Ok(())
}
