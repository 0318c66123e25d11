//! Quantizes a model to a size with a calibration text and scores the result, in ten lines of library calls:
//!
//! ```sh
//! cargo run --release --example quantize -- tests/data/tiny-llama tests/data/corpora/calibration-small.txt out.gguf
//! ```
use std::path::PathBuf;

use kquant::{Error, Quality, Quantizer, Settings, score};

fn main() -> Result<(), Error> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, text, out] = &paths[..] else {
        eprintln!("usage: quantize MODEL TEXT OUT.gguf");
        std::process::exit(2);
    };
    let settings = Settings::default();
    let target = kquant::recipe::Target::BitsPerWeight(4.0);
    let job = Quantizer::new(model).target(target, "all")?.calibrate(text, Quality::Fast).replace();
    let report = job.write(out, &settings)?;
    println!("{} {:.3} bits per weight", report.files[0].sha256, report.bits_per_weight);
    print!("{}", score(out, Some(model), text, &settings)?.text());
    Ok(())
}
