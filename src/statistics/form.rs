//! The two forms of importance matrix files, which are distinguished by their names.

use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::imatrix::Imatrix;

/// The form of an importance matrix file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The GGUF form, which stores sums and counts.
    Gguf,
    /// The legacy form, which stores means.
    Dat,
}

/// The error of a file name that does not show the form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: the name of an importance matrix ends in .gguf, or in .dat for the legacy form; choose one", .0.display())]
pub struct UnknownForm(PathBuf);

impl Form {
    /// Returns the form that the extension of `path` stands for.
    ///
    /// # Errors
    /// Fails when the extension is neither `.gguf` nor `.dat`.
    pub fn of(path: &Path) -> Result<Self, UnknownForm> {
        let extension = path.extension().unwrap_or_default();
        if extension.eq_ignore_ascii_case("gguf") {
            Ok(Self::Gguf)
        } else if extension.eq_ignore_ascii_case("dat") {
            Ok(Self::Dat)
        } else {
            Err(UnknownForm(path.to_owned()))
        }
    }

    /// Writes `matrix` to `path`; an existing file is replaced only if `force` is set.
    ///
    /// # Errors
    /// Fails as [`Imatrix::write_gguf`] and [`Imatrix::write_dat`] do.
    pub fn write(self, matrix: &Imatrix, path: &Path, force: bool) -> Result<(), FormatError> {
        match self {
            Self::Gguf => matrix.write_gguf(path, force),
            Self::Dat => matrix.write_dat(path, force),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        assert_eq!(Form::of(Path::new("a/b.gguf")), Ok(Form::Gguf));
        assert_eq!(Form::of(Path::new("b.imatrix.DAT")), Ok(Form::Dat));
        for name in ["imatrix", "gguf", "b.gguf.bin"] {
            assert!(Form::of(Path::new(name)).is_err(), "{name}");
        }
    }
}
