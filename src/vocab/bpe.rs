//! Byte-level BPE vocabularies, for which `tokenizer.ggml.model` is `gpt2`.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::added::{self, Added};
use super::byte_letters::byte_of;
use super::error::VocabError;
use super::files::{Files, Json};
use super::model::{Bpe, Merge};
use super::pre_tokenizer;
use super::spaces::{kind, steps};
use super::spm::row_count;
use super::tokens::{Kind, Token, Tokens};

/// Sets model, pre-tokenizer, tokens, types and merges.
pub(super) fn load(
    file: &Json,
    bpe: &Bpe,
    files: &Files,
    rows: Option<u64>,
    pre: Option<&str>,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    let pre = match pre {
        Some(name) => name,
        None => pre_tokenizer::find(file, bpe.ignore_merges)?,
    };
    let added = added::collect(file, &bpe.vocab, files)?;
    let tokens = place(file, bpe, &added, rows)?;
    out.set("tokenizer.ggml.model", Value::from("gpt2"));
    out.set("tokenizer.ggml.pre", Value::from(pre));
    tokens.write(false, out);
    let merges = bpe.merges.iter().map(merge_line).collect();
    out.set("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
    Ok(())
}

/// Puts vocabulary and added tokens at their ids; ids without a token stay unused.
pub(super) fn place(
    file: &Json,
    bpe: &Bpe,
    added: &[Added],
    rows: Option<u64>,
) -> Result<Tokens, VocabError> {
    let rows = row_count(bpe.end(), added, rows, &file.path)?;
    let mut tokens = Tokens::unused(rows, 0.0, &file.path)?;
    for (id, text) in bpe.by_id() {
        tokens.put(id, Token { text: text.to_owned(), score: 0.0, kind: Kind::Normal });
    }
    let byte_level = decodes_bytes(file);
    for token in added {
        tokens.check_free(token, &bpe.vocab, &file.path)?;
        let text =
            if byte_level && !token.normalized { plain(&token.content) } else { token.content.clone() };
        tokens.put(token.id, Token { text: token.kind().respell(text), score: 0.0, kind: token.kind() });
    }
    tokens.check_unique(&file.path)?;
    Ok(tokens)
}

/// Returns true if text is cut into words of byte letters.
pub(super) fn is_byte_level(file: &Json) -> bool {
    steps(file, "pre_tokenizer", "pretokenizers").into_iter().any(|step| kind(step) == "ByteLevel")
}

/// Returns true if decoding converts byte letters (`Ġ`) to bytes, in added tokens as well.
fn decodes_bytes(file: &Json) -> bool {
    steps(file, "decoder", "decoders").into_iter().any(|step| kind(step) == "ByteLevel")
}

/// Returns an added token as it appears in text. llama.cpp searches the text itself for added tokens, so one that is
/// written in byte letters is stored decoded, as Hugging Face decodes it: as a whole, or not at all.
fn plain(text: &str) -> String {
    match text.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => text.to_owned(),
    }
}

/// Returns a merge as a line: GGUF separates the halves with a space, so a space inside one is written as its byte
/// letter.
fn merge_line((left, right): &Merge) -> String {
    format!("{} {}", left.replace(' ', "Ġ"), right.replace(' ', "Ġ"))
}

#[cfg(test)]
mod tests {
    use super::{merge_line, plain};

    #[test]
    fn added_tokens_are_decoded_whole_or_not_at_all() {
        assert_eq!(plain("ĠĠ"), "  ");
        assert_eq!(plain("<|endoftext|>"), "<|endoftext|>");
        assert_eq!(plain("Ġ "), "Ġ ");
    }

    #[test]
    fn spaces_inside_merges_become_byte_letters() {
        assert_eq!(merge_line(&("a b".into(), "c".into())), "aĠb c");
    }
}
