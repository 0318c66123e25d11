//! Menus: the types that an allocation may choose from.

use kquant_kernels::block::{self, BlockType};

use crate::recipe::RecipeError;
use crate::recipe::nearest::did_you_mean;
use crate::recipe::types::block_type;

/// A named choice of types.
#[derive(Debug)]
struct NamedMenu {
    name: &'static str,
    /// What the types have in common, for the help text.
    about: &'static str,
    types: &'static [&'static str],
}

/// The named menus but `all`.
///
/// What has kernels where is llama.cpp's state of October 2026: `ggml-cpu/arch` (repacked types on Arm and x86), `ggml-opencl` (Adreno),
/// `ggml-hexagon`, `docs/ops.md`.
const MENUS: &[NamedMenu] = &[
    NamedMenu {
        name: "phone",
        about: "types that Arm processors, Adreno and Hexagon have fast kernels for",
        types: &["Q4_0", "IQ4_NL", "MXFP4", "Q4_K", "Q5_K", "Q6_K", "Q8_0"],
    },
    NamedMenu {
        name: "cpu",
        about: "types that are fast on processors: no lattice codebooks, which are looked up value by value",
        types: &["Q2_K", "Q3_K", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0"],
    },
    NamedMenu {
        name: "gpu",
        about: "types that CUDA, Vulkan and Metal have kernels for",
        types: &[
            "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K", "IQ3_XXS", "IQ3_S", "Q3_K", "IQ4_XS",
            "IQ4_NL", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0",
        ],
    },
];

/// The menu of all quantized types.
const ALL: &str = "all";

/// Runtimes for phones, and the types that each has kernels for.
const PHONE_KERNELS: &[(&str, &[&str])] = &[
    ("Arm CPU", &["Q4_0", "IQ4_NL", "MXFP4", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]),
    ("KleidiAI", &["Q4_0", "Q8_0"]),
    ("Adreno OpenCL", &["Q4_0", "IQ4_NL", "MXFP4", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]),
    ("Hexagon NPU", &["Q4_0", "IQ4_NL", "MXFP4", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]),
    ("Metal", &["Q4_0", "IQ4_NL", "MXFP4", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]),
];

/// The types that an allocation may choose from.
#[derive(Debug, Clone)]
pub struct Menu {
    /// The name, or the list as it was given.
    pub name: String,
    /// The types, in the order of the table of types.
    pub types: Vec<&'static BlockType>,
}

impl Menu {
    /// Reads a menu's name, or a list of types with commas between them.
    ///
    /// # Errors
    /// When a name is neither a menu nor a type that kquant can write.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let name = text.to_ascii_lowercase();
        if name == ALL {
            let quantized = |t: &&'static BlockType| t.quantized && t.encode.is_some();
            return Ok(Self { name, types: block::TYPES.iter().copied().filter(quantized).collect() });
        }
        if let Some(menu) = MENUS.iter().find(|menu| menu.name == name) {
            let types = menu.types.iter().map(|name| block_type(name)).collect::<Result<_, _>>()?;
            return Ok(Self { name, types });
        }
        let listed: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if listed.len() == 1 && block::by_name(text).is_none() {
            return Err(unknown(text));
        }
        let mut types = listed.into_iter().map(block_type).collect::<Result<Vec<_>, _>>()?;
        if types.is_empty() {
            return Err(unknown(text));
        }
        types.sort_by_key(|t| t.id);
        types.dedup_by_key(|t| t.id);
        let names: Vec<&str> = types.iter().map(|t| t.name).collect();
        Ok(Self { name: names.join(","), types })
    }

    /// The named menus, a line each, for a help text.
    pub fn help() -> String {
        let lines =
            MENUS.iter().map(|menu| format!("{}: {} ({})", menu.name, menu.about, menu.types.join(", ")));
        let all = format!("{ALL}: every quantized type");
        std::iter::once(all).chain(lines).collect::<Vec<_>>().join("; ")
    }

    /// The runtimes for phones that have kernels for the type `kind`; none for menus that are not for phones.
    pub fn kernels(&self, kind: &str) -> Vec<&'static str> {
        let listed = if self.name == "phone" { PHONE_KERNELS } else { &[] };
        listed.iter().filter(|(_, types)| types.contains(&kind)).map(|&(runtime, _)| runtime).collect()
    }
}

fn unknown(text: &str) -> RecipeError {
    let names = || MENUS.iter().map(|menu| menu.name).chain([ALL]);
    RecipeError::UnknownMenu {
        name: text.to_owned(),
        meant: did_you_mean(text, names().chain(block::TYPES.iter().map(|t| t.name))),
        available: names().collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_menu_has_types_that_can_be_written() {
        for name in ["all", "phone", "CPU", "gpu"] {
            let menu = Menu::parse(name).unwrap();
            assert!(
                menu.types.len() >= 7 && menu.types.iter().all(|t| t.encode.is_some() && t.quantized),
                "{name}"
            );
        }
    }

    #[test]
    fn a_list_is_a_menu() {
        let menu = Menu::parse(" q8_0, Q4_K,q8_0").unwrap();
        assert_eq!(menu.name, "Q8_0,Q4_K");
        assert_eq!(Menu::parse("q4_k").unwrap().types.len(), 1);
    }

    #[test]
    fn an_unknown_menu_is_answered_with_the_nearest() {
        let error = Menu::parse("phon").unwrap_err().to_string();
        assert!(error.contains("phone?") && error.contains("cpu"), "{error}");
        assert!(Menu::parse("Q4_K,nonsense").is_err());
        assert!(Menu::parse(",").is_err());
    }

    #[test]
    fn every_type_for_phones_has_kernels() {
        let menu = Menu::parse("phone").unwrap();
        assert!(menu.types.iter().all(|t| menu.kernels(t.name).len() >= 4));
        assert!(menu.kernels("Q4_0").contains(&"KleidiAI") && !menu.kernels("Q4_K").contains(&"KleidiAI"));
        assert!(Menu::parse("cpu").unwrap().kernels("Q4_0").is_empty());
    }
}
