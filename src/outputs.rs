//! Checks before a job starts that no output replaces an input or another output, and that each can be written.

use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::split::{parse_shard_path, shard_path};
use kquant_formats::partial::{PartialFile, PartialFolder, is_partial_of, resolve};

/// The reason why an output cannot be written at its path.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The output would replace an input of the job.
    #[error("{}: is part of the input; choose another output", .0.display())]
    IsInput(PathBuf),
    /// Two outputs are the same file.
    #[error("{}: two outputs have this name; give each its own", .0.display())]
    Twice(PathBuf),
    /// The input has the name of an unfinished file of the output. Such a file is removed as the left-over of a killed run unless
    /// a living run holds it.
    #[error(
        "{}: is named like an unfinished file of {}, which would be removed; rename it, or choose another output",
        input.display(), output.display()
    )]
    Unfinished {
        /// Path of the input.
        input: PathBuf,
        /// Path of the output.
        output: PathBuf,
    },
    /// The output leads to something that is not an ordinary file, or its links cannot be followed.
    #[error(transparent)]
    File(#[from] FormatError),
}

/// Checks that no output is one of the inputs, and everything that [`check_names`] checks.
///
/// # Errors
/// Fails when an output is an input, and as [`check_names`] does.
pub fn check(inputs: &[PathBuf], outputs: &[&Path]) -> Result<(), OutputError> {
    check_names(inputs, outputs)?;
    // A missing input cannot be replaced, and its reader gives the better error.
    let inputs: Vec<PathBuf> = inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
    for &output in outputs {
        if inputs.contains(&real(&resolve(output)?)) {
            return Err(OutputError::IsInput(output.to_owned()));
        }
    }
    Ok(())
}

/// Checks that all outputs differ and that no input has the name of an output's unfinished file. An output may be one of the
/// inputs: this suffices for jobs that read their inputs completely before the output gets its name.
///
/// # Errors
/// Fails when two outputs are the same file, an input has the name of an output's unfinished file, or an output leads to
/// something that is not an ordinary file.
pub fn check_names(inputs: &[PathBuf], outputs: &[&Path]) -> Result<(), OutputError> {
    let mut seen = Vec::with_capacity(outputs.len());
    for &output in outputs {
        let target = resolve(output)?;
        for input in inputs {
            // A link to an unfinished file counts as well: its target would be removed.
            if is_partial_of(input, &target) || is_partial_of(&real(input), &target) {
                return Err(OutputError::Unfinished { input: input.clone(), output: output.to_owned() });
            }
        }
        let target = real(&target);
        if seen.contains(&target) {
            return Err(OutputError::Twice(output.to_owned()));
        }
        seen.push(target);
    }
    Ok(())
}

/// Checks that the folder `path` may be written: it does not exist or is empty, so that it holds no input, and the folder
/// around it takes files.
///
/// # Errors
/// Fails as [`PartialFolder::create`] does.
pub fn check_folder(path: &Path) -> Result<(), FormatError> {
    PartialFolder::create(path).map(drop)
}

/// Starts each output and drops it again, so that a path that cannot be written is refused before any work.
///
/// # Errors
/// Fails as [`PartialFile::create`] does.
pub fn try_start(outputs: &[&Path], force: bool) -> Result<(), FormatError> {
    outputs.iter().try_for_each(|path| PartialFile::create(path, 0, force).map(drop))
}

/// Returns the paths of the files that the model at `path` is read from, as far as names show: shards, or weights with
/// configuration, tokenizer, chat templates and model card. All shards of a GGUF are listed, missing ones too.
pub fn model_files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return checkpoint_files(path);
    }
    if let Some((prefix, _, count)) = parse_shard_path(path) {
        return (0..count).map(|no| shard_path(&prefix, no, count)).collect();
    }
    let mut files = vec![path.to_owned()];
    if path.extension().is_some_and(|e| e == "safetensors" || e == "json") {
        files.extend(checkpoint_files(folder_of(path)));
    }
    files
}

fn checkpoint_files(folder: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let own = list(folder).filter(|e| is_of_a_checkpoint(&e.file_name().to_string_lossy())).map(|e| e.path());
    own.chain(list(&folder.join("additional_chat_templates")).map(|e| e.path())).collect()
}

/// Returns whether `name` is the name of a file of a Hugging Face checkpoint. Its folder may hold others, such as results.
fn is_of_a_checkpoint(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "config.json",
        "generation_config.json",
        "adapter_config.json",
        "quantize_config.json",
        "quant_config.json",
        "hf_quant_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "tekken.json",
        "README.md",
    ];
    NAMES.contains(&name)
        || ["tokenizer.", "tokenizer_config.", "chat_template."].iter().any(|start| name.starts_with(start))
        || [".safetensors", ".safetensors.index.json", ".bin", ".jinja"].iter().any(|end| name.ends_with(end))
}

/// Returns `path` without links and `..`. If the file is missing, only its folder is resolved; if that is missing too, `path`
/// is returned as it is.
fn real(path: &Path) -> PathBuf {
    let folder = || Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(folder).unwrap_or_else(|| path.to_owned())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_is_read_from_is_known_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("additional_chat_templates")).unwrap();
        let own = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "chat_template.jinja",
            "additional_chat_templates/rag.jinja",
            "README.md",
        ];
        for name in own.iter().chain(&["result.json", "notes.txt", "model.gguf"]) {
            fs::write(at(name), "").unwrap();
        }
        let sorted = |mut paths: Vec<PathBuf>| {
            paths.sort();
            paths.dedup();
            paths
        };
        let expected = sorted(own.map(at).to_vec());
        assert_eq!(sorted(model_files(folder.path())), expected);
        assert_eq!(sorted(model_files(&at("model-00001-of-00002.safetensors"))), expected);
        assert_eq!(model_files(&at("model.gguf")), [at("model.gguf")]);
        let shards = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"].map(at);
        assert_eq!(model_files(&shards[1]), shards);
    }

    #[test]
    fn outputs_are_held_against_inputs_and_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in"), "").unwrap();
        fs::create_dir(at("sub")).unwrap();
        let unfinished = at("out.kquant-12345678.partial");
        let inputs = [at("in")];
        let message = |result: Result<(), OutputError>| result.unwrap_err().to_string();
        let out = at("out");
        check(&inputs, &[&out, &at("other")]).unwrap();
        for same in [at("in"), at("sub/../in"), at("./in")] {
            assert!(message(check(&inputs, &[&out, &same])).contains("part of the input"));
            check_names(&inputs, &[&out, &same]).unwrap();
        }
        assert!(message(check(&inputs, &[&out, &at("sub/../out")])).contains("two outputs"));
        assert!(message(check_names(&[unfinished], &[&out])).contains("unfinished file"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_on_both_sides() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        for (input, output) in [("link", "file"), ("file", "link"), ("link", "link")] {
            let error = check(&[at(input)], &[&at(output)]).unwrap_err();
            assert!(matches!(error, OutputError::IsInput(_)), "{input} {output}: {error}");
        }
        fs::write(at("out.kquant-12345678.partial"), "").unwrap();
        std::os::unix::fs::symlink("out.kquant-12345678.partial", at("to unfinished")).unwrap();
        let error = check(&[at("to unfinished")], &[&at("out")]).unwrap_err();
        assert!(matches!(error, OutputError::Unfinished { .. }), "{error}");
    }
}
