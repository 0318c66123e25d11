//! Small checkpoints of families that are not supported yet: none is converted to something by chance.

use serde_json::Value as Json;

use crate::support::{Scratch, archs, quantize, stderr};

/// What an error may name: the class, or the family that the class is taken for.
fn names(config: &Json) -> Vec<String> {
    let class = config["architectures"][0].as_str().map(|class| format!("\"{class}\""));
    let family = config["model_type"].as_str().map(|kind| format!("architecture {kind}"));
    class.into_iter().chain(family).collect()
}

#[test]
fn every_pending_folder_is_refused_by_name() {
    let scratch = Scratch::new("pending");
    let [_, pending] = archs::supported_and_pending();
    for folder in pending {
        let out = scratch.path("model.gguf");
        let output = quantize(&folder, &out, "F32", &[]);
        let (error, case) = (stderr(&output), folder.display());
        assert_eq!(output.status.code(), Some(2), "{case}: {error}");
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let names = names(&serde_json::from_str(&text).unwrap());
        assert!(names.iter().any(|name| error.contains(name)), "{case}: {error}");
        assert!(!out.exists(), "{case}");
    }
}
