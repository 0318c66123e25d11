//! Guesses of what an unknown name was meant to be.

/// Returns the one of `names` that is nearest to `word`, by the Levenshtein distance of their letters and digits in any
/// case; `None` if more than a third of them differ for every name.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let word = folded(word);
    let near = names.filter_map(|name| {
        let other = folded(name);
        let distance = strsim::levenshtein(&word, &other);
        (3 * distance <= word.chars().count().max(other.chars().count())).then_some((distance, name))
    });
    near.min().map(|(_, name)| name)
}

/// Returns a question in brackets that suggests the nearest name for an unknown one; nothing where no name is near.
pub(super) fn did_you_mean<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest(word, names).map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["Q4_K_M", "Q4_K_S", "IQ4_XS", "BF16"];
        let nearest = |word| nearest(word, names.into_iter());
        assert_eq!(nearest("q4km"), Some("Q4_K_M"));
        assert_eq!(nearest("IQ4XS"), Some("IQ4_XS"));
        assert_eq!(nearest("bf61"), None);
        assert_eq!(nearest("int8"), None);
    }
}
