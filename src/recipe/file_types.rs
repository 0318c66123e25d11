//! The file types: recipes for whole models under llama-quantize's names.

use super::RecipeError;
use super::mixtures::{self, Rule};
use super::nearest::did_you_mean;

/// A recipe for a whole model.
#[derive(Debug)]
pub struct FileType {
    /// llama-quantize's name.
    pub name: &'static str,
    /// Other names of the file type.
    pub aliases: &'static [&'static str],
    /// Value of `general.file_type`; `None` keeps the source's value.
    pub id: Option<u32>,
    /// Block type of every tensor for which there is no rule; `None` keeps every tensor as it is.
    pub base: Option<&'static str>,
    /// Type of the output projection.
    pub(super) output: &'static str,
    /// Type of the token embedding, if it is not the base type.
    pub(super) embedding: Option<&'static str>,
    /// Rules for the tensors whose types differ from the base type.
    pub(super) rules: &'static [Rule],
    /// True if the adjustments for unusual models apply.
    pub(super) adjusted: bool,
}

/// Makes a file type without a mixture.
const fn flat(name: &'static str, id: u32, base: &'static str) -> FileType {
    FileType {
        name,
        aliases: &[],
        id: Some(id),
        base: Some(base),
        output: "Q6_K",
        embedding: None,
        rules: &[],
        adjusted: true,
    }
}

/// Makes a file type with a mixture.
const fn mixed(name: &'static str, id: u32, base: &'static str, rules: &'static [Rule]) -> FileType {
    FileType { rules, ..flat(name, id, base) }
}

/// Makes one of the smallest file types, whose mixtures deal with unusual models by themselves.
const fn smallest(
    name: &'static str,
    id: u32,
    base: &'static str,
    embedding: &'static str,
    rules: &'static [Rule],
) -> FileType {
    FileType { output: "Q5_K", embedding: Some(embedding), adjusted: false, ..mixed(name, id, base, rules) }
}

/// Every file type, by id.
pub static FILE_TYPES: &[FileType] = &[
    flat("F32", 0, "F32"),
    flat("F16", 1, "F16"),
    mixed("Q4_0", 2, "Q4_0", mixtures::Q4_0),
    flat("Q4_1", 3, "Q4_1"),
    FileType { output: "Q8_0", ..flat("Q8_0", 7, "Q8_0") },
    mixed("Q5_0", 8, "Q5_0", mixtures::Q5_0),
    flat("Q5_1", 9, "Q5_1"),
    mixed("Q2_K", 10, "Q2_K", mixtures::Q2_K),
    mixed("Q3_K_S", 11, "Q3_K", mixtures::Q3_K_S),
    FileType { aliases: &["Q3_K"], ..mixed("Q3_K_M", 12, "Q3_K", mixtures::Q3_K_M) },
    mixed("Q3_K_L", 13, "Q3_K", mixtures::Q3_K_L),
    mixed("Q4_K_S", 14, "Q4_K", mixtures::Q4_K_S),
    FileType { aliases: &["Q4_K"], ..mixed("Q4_K_M", 15, "Q4_K", mixtures::Q4_K_M) },
    flat("Q5_K_S", 16, "Q5_K"),
    FileType { aliases: &["Q5_K"], ..mixed("Q5_K_M", 17, "Q5_K", mixtures::Q5_K_M) },
    flat("Q6_K", 18, "Q6_K"),
    smallest("IQ2_XXS", 19, "IQ2_XXS", "Q2_K", mixtures::IQ2_SMALL),
    smallest("IQ2_XS", 20, "IQ2_XS", "Q2_K", mixtures::IQ2_SMALL),
    mixed("Q2_K_S", 21, "Q2_K", mixtures::Q2_K_S),
    mixed("IQ3_XS", 22, "IQ3_S", mixtures::IQ3_XS),
    FileType {
        output: "Q5_K",
        embedding: Some("IQ3_S"),
        ..mixed("IQ3_XXS", 23, "IQ3_XXS", mixtures::IQ3_XXS)
    },
    smallest("IQ1_S", 24, "IQ1_S", "Q2_K", mixtures::IQ1),
    mixed("IQ4_NL", 25, "IQ4_NL", mixtures::IQ4),
    mixed("IQ3_S", 26, "IQ3_S", mixtures::IQ3_S),
    mixed("IQ3_M", 27, "IQ3_S", mixtures::IQ3_M),
    smallest("IQ2_S", 28, "IQ2_XS", "IQ3_S", mixtures::IQ2_LARGE),
    smallest("IQ2_M", 29, "IQ2_S", "IQ3_S", mixtures::IQ2_LARGE),
    mixed("IQ4_XS", 30, "IQ4_XS", mixtures::IQ4),
    smallest("IQ1_M", 31, "IQ1_M", "Q2_K", mixtures::IQ1),
    flat("BF16", 32, "BF16"),
    FileType { embedding: Some("Q4_K"), ..flat("TQ1_0", 36, "TQ1_0") },
    FileType { embedding: Some("Q4_K"), ..flat("TQ2_0", 37, "TQ2_0") },
    FileType {
        output: "Q8_0",
        embedding: Some("Q8_0"),
        adjusted: false,
        ..mixed("MXFP4_MOE", 38, "MXFP4", mixtures::MXFP4_MOE)
    },
    flat("Q1_0", 40, "Q1_0"),
    FileType { embedding: Some("Q4_K"), ..flat("Q2_0", 41, "Q2_0") },
    FileType { id: None, base: None, ..flat("COPY", 0, "F32") },
];

impl FileType {
    /// Returns whether `text` is the name, an alias or the id of the file type, in any case.
    fn is_called(&self, text: &str) -> bool {
        let named = |name: &&str| name.eq_ignore_ascii_case(text);
        named(&self.name)
            || self.aliases.iter().any(named)
            || (self.id.is_some() && text.parse().ok() == self.id)
    }
}

/// Returns the file type called `name`: a name or alias of llama-quantize in any case, or the number that it stores.
///
/// ```
/// # use kquant::recipe::file_type;
/// assert_eq!(file_type("q4_k")?.name, "Q4_K_M");
/// assert_eq!(file_type("15")?.name, "Q4_K_M");
/// # Ok::<(), kquant::recipe::RecipeError>(())
/// ```
///
/// # Errors
/// Fails when there is no such file type.
pub fn file_type(name: &str) -> Result<&'static FileType, RecipeError> {
    FILE_TYPES.iter().find(|t| t.is_called(name)).ok_or_else(|| {
        let names: Vec<&str> = FILE_TYPES.iter().map(|t| t.name).collect();
        RecipeError::UnknownFileType {
            name: name.to_owned(),
            meant: did_you_mean(name, names.iter().copied()),
            available: names.join(", "),
        }
    })
}
