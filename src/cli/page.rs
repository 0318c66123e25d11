//! `--html`: the report to look at, which several commands write.

use std::path::Path;

use kquant::report::{Page, Section};
use kquant_formats::partial::PartialFile;

/// Writes the page `title` of `sections` to a file that has no name yet.
pub(super) fn fill(
    path: &Path,
    (title, lead): (&str, &str),
    sections: Vec<Section>,
    force: bool,
) -> anyhow::Result<PartialFile> {
    let page = Page {
        title: title.to_owned(),
        lead: lead.to_owned(),
        command: command(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sections,
    };
    let mut file = PartialFile::create(path, 0, force)?;
    file.fill(page.html().as_bytes())?;
    Ok(file)
}

/// Returns the command as it was typed, quoted as a shell takes it.
fn command() -> String {
    let args = std::env::args_os().skip(1).map(|arg| quoted(&arg.to_string_lossy()));
    ["kquant".to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" ")
}

/// Returns `arg` in quotes if a shell would take it apart.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=,:+@%".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        let all = ["--size=2G", "a b", "it's", "", "$HOME", "naïve.gguf"].map(quoted);
        assert_eq!(all, ["--size=2G", "'a b'", "'it'\\''s'", "''", "'$HOME'", "naïve.gguf"]);
    }
}
