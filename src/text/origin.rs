//! What identifies a text in metadata, statistics and manifests.

use std::path::PathBuf;

/// A text file that was read. Another reading could give another text, and of a pipe none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileText {
    /// The path it was read from.
    pub path: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Text that a model wrote itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OwnText {
    /// Number of its tokens.
    pub tokens: u64,
    /// Seed that they were drawn by.
    pub seed: u64,
}

/// The text that a model is calibrated on: of a file, of its own, or of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOrigin {
    /// The file, if there is one.
    pub file: Option<FileText>,
    /// The model's own text, if there is any.
    pub own: Option<OwnText>,
    /// SHA-256 that tells it from other texts, in hexadecimal: of the file's bytes, or, where the model wrote a part, of all
    /// tokens as little-endian numbers of 32 bits.
    pub sha256: String,
}

/// The name of a text that the model wrote.
const OWN: &str = "own text";

impl TextOrigin {
    /// Returns the path of the file, followed by a word on the model's own text.
    pub fn path_name(&self) -> String {
        self.joined(|file| file.path.to_string_lossy().into_owned())
    }

    /// Returns the name of the file without its folder, followed by a word on the model's own text.
    pub fn name(&self) -> String {
        self.joined(|file| file.path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    fn joined(&self, name: impl Fn(&FileText) -> String) -> String {
        let names = [self.file.as_ref().map(name), self.own.as_ref().map(|_| OWN.to_owned())];
        names.into_iter().flatten().collect::<Vec<_>>().join(" + ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_there_is() {
        let file = FileText { path: "texts/a.txt".into(), sha256: "f0".into(), bytes: 3 };
        let own = OwnText { tokens: 512, seed: 7 };
        let told = |file: Option<&FileText>, own: Option<&OwnText>| {
            let origin = TextOrigin { file: file.cloned(), own: own.cloned(), sha256: String::new() };
            [origin.path_name(), origin.name()]
        };
        assert_eq!(told(Some(&file), None), ["texts/a.txt", "a.txt"]);
        assert_eq!(told(None, Some(&own)), ["own text", "own text"]);
        assert_eq!(told(Some(&file), Some(&own)), ["texts/a.txt + own text", "a.txt + own text"]);
    }
}
