//! Files of what a teacher predicted over a text.

use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::targets::{Description, Rows, TargetsFile};

/// Files of the parts of a text, each there once.
#[derive(Debug)]
pub struct TeacherFiles {
    /// In the order of the text; at least one.
    files: Vec<TargetsFile>,
    /// What the first one states.
    description: Description,
}

/// The reason why teacher's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TeacherFileError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FormatError),
    /// There is no file.
    #[error("there is no teacher's file")]
    None,
    /// Two files are not of one teacher and text.
    #[error(
        "{} and {} differ in {what}: give the parts that kquant teach made of one text with one teacher",
        first.display(), second.display()
    )]
    Differ {
        /// The first file.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The files are not all parts of their text, each once.
    #[error(
        "{}: chunks {} to {} of the text's {of} should follow: give all parts of the text, each once",
        path.display(), expected + 1, next.unwrap_or(*of)
    )]
    Parts {
        /// The file before the fault.
        path: PathBuf,
        /// Chunk that should follow.
        expected: u64,
        /// First chunk of the file that follows in its place, if there is one and it comes later.
        next: Option<u64>,
        /// Number of chunks of the text.
        of: u64,
    },
}

impl TeacherFiles {
    /// Opens teacher's files, which are all parts of one text.
    ///
    /// # Errors
    /// Fails when a file cannot be read, the files are of different teachers or texts, or a part is missing or there twice.
    pub fn open(paths: &[PathBuf]) -> Result<Self, TeacherFileError> {
        let mut files: Vec<TargetsFile> =
            paths.iter().map(|path| TargetsFile::open(path)).collect::<Result<_, _>>()?;
        files.sort_by_key(|file| file.description().chunks.start);
        let first = files.first().ok_or(TeacherFileError::None)?;
        if let Some((other, what)) =
            files.iter().find_map(|file| Some((file, difference(first.description(), file.description())?)))
        {
            let (first, second) = (first.path().to_owned(), other.path().to_owned());
            return Err(TeacherFileError::Differ { first, second, what });
        }
        let (description, of) = (first.description().clone(), first.description().of);
        let mut end = (first.path(), 0);
        let next = files.iter().map(|file| (Some(file), file.description().chunks.start)).chain([(None, of)]);
        for (file, start) in next {
            if start != end.1 {
                let next = file.map(|_| start).filter(|&start| start > end.1);
                return Err(TeacherFileError::Parts { path: end.0.to_owned(), expected: end.1, next, of });
            }
            end = file.map_or(end, |file| (file.path(), file.description().chunks.end));
        }
        Ok(Self { files, description })
    }

    /// Returns what the first file states; the others differ from it in their chunks alone.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the path of the first file.
    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), TargetsFile::path)
    }

    /// Returns the tokens of the text, `[chunks][context]`.
    pub fn tokens(&self) -> Vec<u32> {
        self.files.iter().flat_map(TargetsFile::tokens).copied().collect()
    }

    /// Returns the predictions of chunk `chunk` of the text.
    ///
    /// # Errors
    /// Fails when there is no such chunk, a file cannot be read, or it holds what no prediction is.
    pub(super) fn chunk(&self, chunk: usize) -> Result<Rows, FormatError> {
        let chunk = chunk as u64;
        let file = self.files.iter().find(|file| file.description().chunks.contains(&chunk));
        let none = || FormatError::Invalid {
            what: format!("there is no chunk {chunk} in the teacher's files"),
            hint: "give all parts of the text",
        };
        let file = file.ok_or_else(none)?;
        file.chunk(chunk - file.description().chunks.start)
    }
}

/// Returns in what two files differ that should be parts of one text.
fn difference(a: &Description, b: &Description) -> Option<&'static str> {
    let checks = [
        (a.text_sha256 == b.text_sha256 && a.of == b.of, "their text"),
        (a.context == b.context, "the number of tokens of a chunk"),
        (a.top == b.top, "the number of likeliest tokens"),
        (a.teacher == b.teacher, "their teacher"),
        (a.vocabulary == b.vocabulary && a.logits == b.logits, "their vocabulary"),
    ];
    checks.into_iter().find(|(equal, _)| !equal).map(|(_, what)| what)
}
