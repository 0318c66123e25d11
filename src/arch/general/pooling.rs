//! How an embedding model makes one vector of a text's states, as sentence-transformers' files say.

use std::path::{Component, Path};

use kquant_formats::whole;
use serde_json::Value as Json;

use crate::arch::ArchError;

/// How the states of a text's tokens become the embedding of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The state of the first token.
    First,
    /// The state of the last token.
    Last,
}

impl Pooling {
    /// The number in GGUF.
    pub fn id(self) -> u32 {
        match self {
            Self::Mean => 1,
            Self::First => 2,
            Self::Last => 3,
        }
    }

    /// Returns the pooling of number `id` in GGUF; `None` for others, such as those of rerankers.
    pub fn by_id(id: u64) -> Option<Self> {
        [Self::Mean, Self::First, Self::Last].into_iter().find(|pooling| u64::from(pooling.id()) == id)
    }
}

/// The keys of `config.json` of a pooling module, and the values of its newer key `pooling_mode`.
const MODES: [(&str, &str, Pooling); 3] = [
    ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
    ("pooling_mode_cls_token", "cls", Pooling::First),
    ("pooling_mode_lasttoken", "lasttoken", Pooling::Last),
];

/// Returns the pooling of the model in `folder`; `None` for a model without `modules.json` or without a module that pools.
///
/// # Errors
/// Fails when a file cannot be read or is no JSON, or the pooling is of a kind that GGUF does not have.
pub fn pooling(folder: &Path) -> Result<Option<Pooling>, ArchError> {
    let modules = folder.join("modules.json");
    let Some(list) = read(&modules)? else { return Ok(None) };
    let kind = |module: &&Json| module["type"].as_str().is_some_and(|kind| kind.ends_with("Pooling"));
    let Some(module) = list.as_array().and_then(|all| all.iter().find(kind)) else { return Ok(None) };
    let path = module["path"].as_str().map(Path::new);
    let inside = |path: &&Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    let Some(path) = path.filter(inside) else {
        return Err(fault(&modules, "has a pooling module whose path is not inside of the folder"));
    };
    let file = folder.join(path).join("config.json");
    let config = read(&file)?.ok_or_else(|| fault(&file, "is missing, though modules.json names it"))?;
    let by_flag = MODES.iter().find(|(flag, ..)| config[*flag].as_bool() == Some(true));
    let mode = config["pooling_mode"].as_str();
    let found = by_flag.or_else(|| MODES.iter().find(|(_, name, _)| Some(*name) == mode));
    match found {
        Some((.., pooling)) => Ok(Some(*pooling)),
        None => {
            Err(fault(&file, "pools in a way that GGUF has no name for; mean, cls and lasttoken are known"))
        }
    }
}

fn read(path: &Path) -> Result<Option<Json>, ArchError> {
    let bytes =
        whole::read_if_there(path, whole::CONFIGURATION).map_err(|e| ArchError::Read(e.to_string()))?;
    let parsed = bytes.map(|bytes| serde_json::from_slice(&bytes));
    parsed.transpose().map_err(|e| fault(path, &format!("is no JSON: {e}")))
}

fn fault(path: &Path, what: &str) -> ArchError {
    ArchError::Read(format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(modules: &Json, config: Option<&Json>) -> Result<Option<Pooling>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("modules.json"), modules.to_string()).unwrap();
        std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        if let Some(config) = config {
            std::fs::write(folder.path().join("1_Pooling/config.json"), config.to_string()).unwrap();
        }
        pooling(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn modules_say_how_states_are_pooled() {
        let modules =
            json!([{ "type": "a.Transformer", "path": "" }, { "type": "a.Pooling", "path": "1_Pooling" }]);
        for (config, expected) in [
            (json!({ "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false }), Pooling::Mean),
            (json!({ "pooling_mode_cls_token": true }), Pooling::First),
            (json!({ "pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true }), Pooling::Last),
            (json!({ "pooling_mode": "lasttoken" }), Pooling::Last),
        ] {
            assert_eq!(of(&modules, Some(&config)), Ok(Some(expected)));
            assert_eq!(Pooling::by_id(expected.id().into()), Some(expected));
        }
        assert_eq!(of(&json!([{ "type": "a.Transformer", "path": "" }]), None), Ok(None));
        assert_eq!(pooling(Path::new("no/such/folder")).map_err(|e| e.to_string()), Ok(None));
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_file() {
        let modules = json!([{ "type": "a.Pooling", "path": "1_Pooling" }]);
        for config in [json!({ "pooling_mode_max_tokens": true }), json!([]), json!({ "pooling_mode": 5 })] {
            assert!(
                of(&modules, Some(&config)).unwrap_err().contains("1_Pooling/config.json: pools in a way")
            );
        }
        assert!(of(&modules, None).unwrap_err().contains("is missing"));
        for path in [json!("../x"), json!("/etc"), json!(null)] {
            let modules = json!([{ "type": "a.Pooling", "path": path }]);
            assert!(of(&modules, None).unwrap_err().contains("not inside"), "{path}");
        }
    }
}
