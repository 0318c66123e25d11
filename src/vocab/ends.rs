//! Ends of generation: configurations list several ids, while GGUF has keys for three.
//!
//! The first key, the end of a text, is read with the other roles. Further ids become the end of a turn and the end of a
//! message if their texts show it; llama.cpp stops at some more by their texts.

use kquant_formats::gguf::{Metadata, Value as Kv};
use serde_json::Value;

use super::files::Files;
use super::named::{self, MESSAGE_ENDS, TURN_ENDS};
use super::special::{EOM, EOS, EOT, configured_id, numbers};

/// Returns all ids at which a configuration ends generation: those of `config.json`, then those of
/// `generation_config.json`.
fn listed(files: &Files, config: &Value) -> Vec<u64> {
    let generation = files.generation.as_ref().map(|file| &file.value);
    let lists =
        [Some(config), generation].into_iter().flatten().filter_map(|file| configured_id(file, "eos"));
    let mut out: Vec<u64> = Vec::new();
    for id in lists.flat_map(numbers).filter(|&id| id <= u64::from(u32::MAX)) {
        if out.len() < MOST && !out.contains(&id) {
            out.push(id);
        }
    }
    out
}

/// Largest number of ends that is read; published models have up to five.
pub(super) const MOST: usize = 100;

/// Returns the keys of the ends of a turn and of a message that `keys` lacks, with their ids. `text` returns a token's
/// text.
///
/// The surest text of an end of a turn is taken, but none if the text of the end of all is as sure: a model whose answers
/// end in `<|eot_id|>` also lists `<|end_of_text|>`, which ends no turn.
pub(super) fn find<'a>(
    files: &Files,
    config: &Value,
    text: &dyn Fn(u64) -> Option<&'a str>,
    keys: &Metadata,
) -> Vec<(&'static str, u32)> {
    let rank = |id: u64| TURN_ENDS.iter().position(|end| Some(*end) == text(id));
    let eos = keys.get(EOS).and_then(Kv::as_u64);
    let own = eos.and_then(rank);
    let further: Vec<u64> = listed(files, config).into_iter().filter(|&id| Some(id) != eos).collect();
    let turn = further.iter().filter_map(|&id| Some((rank(id)?, id))).min();
    let turn = turn.filter(|(rank, _)| own.is_none_or(|own| *rank < own)).map(|(_, id)| id);
    let message = further.iter().copied().find(|&id| text(id).is_some_and(|end| MESSAGE_ENDS.contains(&end)));
    let missing = |(key, id): (&'static str, Option<u64>)| {
        let id = u32::try_from(id?).ok()?;
        keys.get(key).is_none().then_some((key, id))
    };
    [(EOT, turn), (EOM, message)].into_iter().filter_map(missing).collect()
}

/// Returns warnings on the ends that a configuration lists and `keys` cannot express. `texts` are those of all tokens, by
/// id.
pub(super) fn warnings(files: &Files, config: &Value, texts: &[String], keys: &Metadata) -> Vec<String> {
    let said: Vec<u64> = [EOS, EOT, EOM].iter().filter_map(|key| keys.get(key)?.as_u64()).collect();
    let unsaid = |id: u64| {
        let text = texts.get(usize::try_from(id).ok()?)?;
        (!said.contains(&id) && !named::is_end(text)).then(|| {
            format!(
                "generation ends at token {text:?} ({id}), too (eos_token_id of the configuration); GGUF has no key for \
                 it, so llama.cpp does not stop there"
            )
        })
    };
    listed(files, config).into_iter().filter_map(unsaid).collect()
}
