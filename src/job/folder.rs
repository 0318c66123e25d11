//! A changed model as a Hugging Face folder.

use std::path::Path;

use crate::checkpoint::{self, Opened};
use crate::context::Context;
use crate::convert::{Converted, convert};
use crate::folder::{FolderError, NewFolder, write};

/// Which source is written back, in which form.
#[derive(Debug, Clone, Copy)]
pub struct FolderJob<'a> {
    /// The source: a Hugging Face folder or a safetensors file in one.
    pub model: &'a Path,
    /// Type of all weights, F32, F16 or BF16; each tensor keeps its own without it.
    pub kind: Option<&'a str>,
    /// Name of the pre-tokenizer, when it is not recognised.
    pub pre: Option<&'a str>,
    /// The folder to write; without it, only its size is found.
    pub out: Option<&'a Path>,
}

/// Checks that the source `opened`, converted to `input`, can be written back as a folder; reads no tensor data.
///
/// # Errors
/// [`FolderError`], which names the tensor or key that stands in the way.
pub fn check_folder(opened: &Opened, input: &Converted, kind: Option<&str>) -> Result<(), FolderError> {
    NewFolder::new(opened, input, input, kind).map(drop)
}

impl FolderJob<'_> {
    /// Writes `changed`, which was made of the source, and returns the bytes of the files of weights, or those of the weights if
    /// nothing is to be written.
    ///
    /// # Errors
    /// [`FolderError`]; no folder is left behind.
    pub fn run(&self, changed: &Converted, run: &Context) -> Result<u64, FolderError> {
        let opened = checkpoint::open(self.model)?;
        let base = convert(&opened, self.pre, None)?;
        let folder = NewFolder::new(&opened, &base, changed, self.kind)?;
        match self.out {
            Some(out) => write(&folder, (&opened, changed), self.pre, out, run),
            None => Ok(folder.bytes()),
        }
    }
}
