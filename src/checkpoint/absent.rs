//! Advice for a path that holds something other than a model in a readable format.

use std::fs;
use std::path::Path;

use kquant_formats::whole;

use super::OpenError;
use super::foreign::{ADAPTER_CONFIG, adapter};

/// Number of names shown per message.
const SHOWN: usize = 5;

/// Weights in the formats of other programs: ends of file names, and the program or format.
const OTHER_FORMATS: [(&[&str], &str); 6] = [
    (&[".bin", ".pt", ".pth", ".ckpt"], "PyTorch"),
    (&[".h5"], "TensorFlow"),
    (&[".msgpack"], "Flax"),
    (&[".onnx", ".onnx_data"], "ONNX"),
    (&[".npz"], "NumPy"),
    (&[".nemo"], "NeMo"),
];

/// Names of files that hold no weights, in a PyTorch training run.
const NO_WEIGHTS: [&str; 4] = ["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"];

/// Refuses a folder without safetensors that holds something else instead, which is a common slip: the error names what
/// is there and how to get what is wanted. A folder that holds nothing known is left to the caller.
pub(super) fn check_folder(folder: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if names.iter().any(|name| name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) {
        return Ok(());
    }
    match instead(folder, &names) {
        Some(what) => Err(OpenError::NotAModel { path: folder.to_owned(), what }),
        None => Ok(()),
    }
}

/// Describes what `folder`, which holds `names` and no safetensors, holds instead.
fn instead(folder: &Path, names: &[String]) -> Option<String> {
    let ending = |ends: &[&str]| -> Vec<&str> {
        let is_one = |name: &&str| ends.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        names.iter().map(String::as_str).filter(is_one).filter(|name| !NO_WEIGHTS.contains(name)).collect()
    };
    let ggufs = ending(&[".gguf"]);
    if !ggufs.is_empty() {
        let shown = listed(&ggufs);
        return Some(format!("the folder holds GGUF files and no safetensors; name the file: {shown}"));
    }
    if names.iter().any(|name| name == ADAPTER_CONFIG) {
        return Some(adapter(folder));
    }
    for (ends, whose) in OTHER_FORMATS {
        let found = ending(ends);
        if !found.is_empty() {
            let shown = listed(&found);
            return Some(format!(
                "the folder holds weights of {whose} ({shown}) and no safetensors; {RESAVE}"
            ));
        }
    }
    let snapshots = folder.join("snapshots");
    let mut found: Vec<String> = fs::read_dir(&snapshots)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .collect();
    found.sort();
    let shown = listed(&found.iter().map(String::as_str).collect::<Vec<_>>());
    (!found.is_empty()).then(|| {
        format!(
            "the folder is a model's place in the cache of Hugging Face; name one of its snapshots: {shown}"
        )
    })
}

fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Advice on how to get safetensors from weights of other programs.
const RESAVE: &str = "fetch the model's safetensors, or save it as such with transformers: \
                      `AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)`, and \
                      `AutoTokenizer` the same way";

/// Refuses a file that is neither a GGUF nor safetensors, by its name or by its first bytes, `start`.
pub(super) fn check_file(path: &Path, start: &[u8]) -> Result<(), OpenError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if !path.is_file() || [".safetensors", ".json"].iter().any(|end| name.ends_with(end)) {
        return Ok(());
    }
    let other = OTHER_FORMATS.iter().find(|(ends, _)| ends.iter().any(|end| name.ends_with(end)));
    // PyTorch writes zip files and formerly wrote Python's pickles. Safetensors begin with the 8-byte length of a header,
    // whose upper 4 bytes are 0.
    let pickle =
        matches!(start, [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..]) && start.get(4..8) != Some(&[0; 4]);
    if !name.ends_with(".gguf") && other.is_none() && !pickle {
        return Ok(());
    }
    // Reading a short file finds a pointer that stands for the weights; weights themselves are not read as a whole.
    if fs::metadata(path).is_ok_and(|kind| kind.len() < 1024) {
        whole::read(path, whole::CONFIGURATION)?;
    }
    let what = match other {
        _ if name.ends_with(".gguf") => {
            "does not begin with `GGUF`. The file is damaged or something else; download it again".to_owned()
        }
        Some((_, whose)) => format!("weights of {whose}, which kquant does not read; {RESAVE}"),
        None => format!("weights of PyTorch, which kquant does not read; {RESAVE}"),
    };
    Err(OpenError::NotAModel { path: path.to_owned(), what })
}
